// SPDX-License-Identifier: Apache-2.0
//! SO_RCVTIMEO and SO_SNDTIMEO, which are kept inside.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::context::Context;
use crate::errno::Errno;

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_US: u64 = 1_000;

/// How long a call may block: nanoseconds, 0 for ever.
#[derive(Debug, Default)]
pub(crate) struct Timeout(AtomicU64);

impl Timeout {
    /// Takes a `struct timeval`.
    ///
    /// # Errors
    /// `EINVAL` if it is too short, `EDOM` for microseconds outside a second.
    pub(crate) fn set(&self, value: &[u8]) -> Result<(), Errno> {
        let (seconds, rest) = value.split_first_chunk::<8>().ok_or(Errno::EINVAL)?;
        let (micros, _) = rest.split_first_chunk::<8>().ok_or(Errno::EINVAL)?;
        let seconds = i64::from_le_bytes(*seconds);
        let micros = u64::from_le_bytes(*micros);
        if micros >= NS_PER_S / NS_PER_US {
            return Err(Errno::EDOM);
        }
        // Negative seconds: do not wait at all, like Linux; one nanosecond is
        // the shortest there is, as 0 means for ever.
        let ns = match u64::try_from(seconds) {
            Ok(seconds) => seconds
                .saturating_mul(NS_PER_S)
                .saturating_add(micros * NS_PER_US),
            Err(_) => 1,
        };
        self.0.store(ns, Ordering::Release);
        Ok(())
    }

    /// As a `struct timeval`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let ns = self.0.load(Ordering::Acquire);
        let mut out = (ns / NS_PER_S).to_le_bytes().to_vec();
        out.extend_from_slice(&(ns % NS_PER_S / NS_PER_US).to_le_bytes());
        out
    }

    /// Whether there is one.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// When a call that starts now must end.
    pub(crate) fn deadline(&self, cx: &Context<'_>) -> Option<u64> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            ns => Some(cx.now().saturating_add(ns)),
        }
    }

    /// Takes over another socket's.
    pub(crate) fn copy(&self, other: &Self) {
        self.0
            .store(other.0.load(Ordering::Acquire), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeval(seconds: i64, micros: u64) -> Vec<u8> {
        [seconds.to_le_bytes(), micros.to_le_bytes()].concat()
    }

    #[test]
    fn a_timeval_survives_and_nonsense_is_refused() {
        let timeout = Timeout::default();
        assert!(!timeout.is_set());
        timeout.set(&timeval(2, 500_000)).unwrap();
        assert_eq!(timeout.encode(), timeval(2, 500_000));
        assert_eq!(timeout.set(&timeval(0, 1_000_000)), Err(Errno::EDOM));
        assert_eq!(timeout.set(&[0; 8]), Err(Errno::EINVAL));
        timeout.set(&timeval(-1, 0)).unwrap();
        assert!(timeout.is_set());
        timeout.set(&timeval(0, 0)).unwrap();
        assert!(!timeout.is_set());
    }
}
