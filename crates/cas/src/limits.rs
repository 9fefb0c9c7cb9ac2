// SPDX-License-Identifier: Apache-2.0
//! How much one address may ask for at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections that all addresses together may hold open on one port.
pub const MAX_CONNECTIONS: usize = 1024;
/// REST connections of one address.
pub const MAX_REST_PER_ADDRESS: usize = 64;
/// Challenges of one address that wait for evidence (spec/wire.md).
pub const MAX_CHALLENGES_PER_ADDRESS: usize = 16;
/// Attested connections of one address, waiting and configured.
pub const MAX_ATTESTED_PER_ADDRESS: usize = 512;

/// Counts things that addresses hold.
#[derive(Clone, Debug)]
pub struct Quota {
    held: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    per_address: usize,
    total: usize,
}

/// One thing that an address holds; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    quota: Quota,
    address: IpAddr,
}

impl Quota {
    /// At most `per_address` for one and `total` for all addresses.
    pub fn new(per_address: usize, total: usize) -> Self {
        Self {
            held: Arc::default(),
            per_address,
            total,
        }
    }

    /// Takes one for an address, unless it or all together hold the most already.
    pub fn take(&self, address: IpAddr) -> Option<Permit> {
        // An IPv4 address has one identity, however it arrives.
        let address = address.to_canonical();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = held.values().sum();
        let own = held.entry(address).or_insert(0);
        if all >= self.total || *own >= self.per_address {
            if *own == 0 {
                held.remove(&address);
            }
            return None;
        }
        *own += 1;
        Some(Permit {
            quota: self.clone(),
            address,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let held = &self.quota.held;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_limits_one_address_and_all_and_is_given_back() {
        let quota = Quota::new(2, 3);
        let [a, b, mapped]: [IpAddr; 3] =
            ["1.1.1.1", "2.2.2.2", "::ffff:1.1.1.1"].map(|a| a.parse().unwrap());
        let one = quota.take(a);
        let two = quota.take(mapped);
        assert!(one.is_some() && two.is_some());
        assert!(quota.take(a).is_none());
        let three = quota.take(b);
        assert!(three.is_some());
        assert!(quota.take(b).is_none(), "all together");
        drop(one);
        assert!(quota.take(a).is_some());
    }
}
