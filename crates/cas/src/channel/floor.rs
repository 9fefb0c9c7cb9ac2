// SPDX-License-Identifier: Apache-2.0
//! What the CAS has seen of time and collateral, so that neither goes back (security rule S14).
//!
//! Kept as a sealed record. The floor of time is the latest issue date of verified collateral; per
//! issuer the highest numbers of its documents and revocation lists. Lower ones are refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use attest::dcap::CollateralFreshness;
use attest::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::{Key, Kind, Store, StoreError, transact};

/// Time or collateral is older than what was seen before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloorError {
    /// The clock is behind.
    #[error(
        "The clock says {now}, but collateral issued at {floor} was verified before; set the clock"
    )]
    Clock {
        /// The time of the clock.
        now: UnixTime,
        /// The floor.
        floor: UnixTime,
    },
    /// Older collateral.
    #[error("The collateral's {what} is {found}, {seen} was seen before; fetch new collateral")]
    Collateral {
        /// Which number.
        what: &'static str,
        /// As found.
        found: u64,
        /// The highest one seen.
        seen: u64,
    },
    /// The stored floor cannot be read.
    #[error("The stored floor of time has an unknown form")]
    Form,
    /// The store failed.
    #[error("The floor of time cannot be stored")]
    Store(#[from] StoreError),
}

/// Highest numbers of one PCK issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    tcb_evaluation: u64,
    qe_evaluation: u64,
    root_crl: u64,
    pck_crl: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    time: u64,
    issuers: BTreeMap<String, Numbers>,
}

impl Numbers {
    fn of(freshness: &CollateralFreshness) -> Self {
        Self {
            tcb_evaluation: freshness.tcb_evaluation.into(),
            qe_evaluation: freshness.qe_evaluation.into(),
            root_crl: freshness.root_crl_number.unwrap_or(0),
            pck_crl: freshness.pck_crl_number.unwrap_or(0),
        }
    }

    fn pairs(self, seen: Self) -> [(&'static str, u64, u64); 4] {
        [
            (
                "TCB evaluation number",
                self.tcb_evaluation,
                seen.tcb_evaluation,
            ),
            (
                "QE evaluation number",
                self.qe_evaluation,
                seen.qe_evaluation,
            ),
            ("root CRL number", self.root_crl, seen.root_crl),
            ("PCK CRL number", self.pck_crl, seen.pck_crl),
        ]
    }

    fn highest(self, other: Self) -> Self {
        Self {
            tcb_evaluation: self.tcb_evaluation.max(other.tcb_evaluation),
            qe_evaluation: self.qe_evaluation.max(other.qe_evaluation),
            root_crl: self.root_crl.max(other.root_crl),
            pck_crl: self.pck_crl.max(other.pck_crl),
        }
    }
}

impl Seen {
    fn check_time(&self, now: UnixTime) -> Result<(), FloorError> {
        let floor = UnixTime(self.time);
        if now < floor {
            return Err(FloorError::Clock { now, floor });
        }
        Ok(())
    }

    /// Checks collateral and notes what it raises; `true` if it raised anything.
    fn admit(&mut self, freshness: &CollateralFreshness) -> Result<bool, FloorError> {
        let before = self.clone();
        let issuer = hex::encode(freshness.pck_ca_spki);
        let found = Numbers::of(freshness);
        let seen = self.issuers.entry(issuer).or_default();
        for (what, found, seen) in found.pairs(*seen) {
            if found < seen {
                return Err(FloorError::Collateral { what, found, seen });
            }
        }
        *seen = seen.highest(found);
        self.time = self.time.max(freshness.issued.0);
        Ok(*self != before)
    }
}

/// The floor of a running CAS.
pub struct Floor {
    store: Arc<dyn Store>,
    seen: Mutex<Seen>,
}

impl std::fmt::Debug for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Floor")
    }
}

fn key() -> Key {
    Key::new(Kind::Floor, "")
}

fn decode(bytes: Option<&[u8]>) -> Result<Seen, FloorError> {
    match bytes {
        None => Ok(Seen::default()),
        Some(bytes) => serde_json::from_slice(bytes).map_err(|_| FloorError::Form),
    }
}

impl Floor {
    /// Reads the stored floor.
    ///
    /// # Errors
    /// The store failed or holds something else.
    pub fn load(store: Arc<dyn Store>) -> Result<Self, FloorError> {
        let bytes = store.get(&key())?;
        let seen = decode(bytes.as_ref().map(|bytes| bytes.as_slice()))?;
        Ok(Self {
            store,
            seen: Mutex::new(seen),
        })
    }

    /// Refuses a clock that is behind the floor.
    ///
    /// # Errors
    /// [`FloorError::Clock`].
    pub fn check_time(&self, now: UnixTime) -> Result<(), FloorError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.check_time(now)
    }

    /// Checks verified collateral against what was seen, and stores what it raises.
    ///
    /// # Errors
    /// The collateral is older than what was seen, or the store failed.
    pub async fn admit(&self, freshness: &CollateralFreshness) -> Result<(), FloorError> {
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if !seen.clone().admit(freshness)? {
                return Ok(());
            }
            // Others are held to it from now on, also while it is being stored.
            seen.admit(freshness)?;
        }
        let freshness = *freshness;
        transact(&*self.store, move |transaction| {
            let bytes = transaction.get(&key())?;
            let mut seen = decode(bytes.as_ref().map(|bytes| bytes.as_slice()))?;
            if seen.admit(&freshness)? {
                let json = serde_json::to_vec(&seen).map_err(|_| FloorError::Form)?;
                transaction.put(key(), &json)?;
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freshness(issued: u64, crl: u64) -> CollateralFreshness {
        CollateralFreshness {
            issued: UnixTime(issued),
            expires: UnixTime(u64::MAX),
            tcb_evaluation: 5,
            qe_evaluation: 5,
            root_crl_number: Some(1),
            pck_crl_number: Some(crl),
            pck_ca_spki: [1; 32],
        }
    }

    #[test]
    fn time_and_numbers_never_go_back() {
        let mut seen = Seen::default();
        assert!(seen.admit(&freshness(1000, 7)).unwrap());
        assert!(!seen.admit(&freshness(900, 7)).unwrap());
        assert!(matches!(
            seen.admit(&freshness(2000, 6)),
            Err(FloorError::Collateral {
                what: "PCK CRL number",
                found: 6,
                seen: 7
            })
        ));
        let other_issuer = CollateralFreshness {
            pck_ca_spki: [2; 32],
            ..freshness(1000, 1)
        };
        assert!(seen.admit(&other_issuer).unwrap());
        assert!(matches!(
            seen.check_time(UnixTime(999)),
            Err(FloorError::Clock { .. })
        ));
        assert!(seen.check_time(UnixTime(1000)).is_ok());
    }
}
