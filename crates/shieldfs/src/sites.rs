// SPDX-License-Identifier: Apache-2.0
//! Syscall-site lists: file offsets of syscall instructions in ELF files, strictly ascending,
//! stored as differences in unsigned LEB128 (the first one as it is, later ones minus one).

use alloc::vec::Vec;

/// Most sites one file may list.
pub const MAX_SITES: usize = 1 << 20;
/// Most bytes of an encoded list; five per site.
pub const MAX_ENCODED: u64 = 5 << 20;

/// Why a list was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SitesError {
    /// Offsets are not strictly ascending.
    #[error("Syscall sites are not in strictly ascending order")]
    Order,
    /// More than [`MAX_SITES`].
    #[error("More than {MAX_SITES} syscall sites")]
    TooMany,
    /// A number that is cut off, longer than needed or larger than 32 bits.
    #[error("The bytes of the syscall-site list are malformed")]
    Malformed,
}

/// Canonical bytes of a list.
///
/// # Errors
/// [`SitesError::Order`] or [`SitesError::TooMany`].
pub fn encode(sites: &[u32]) -> Result<Vec<u8>, SitesError> {
    if sites.len() > MAX_SITES {
        return Err(SitesError::TooMany);
    }
    let mut out = Vec::with_capacity(sites.len());
    let mut next = Some(0_u32);
    for site in sites {
        let lowest = next.ok_or(SitesError::Order)?;
        let mut rest = site.checked_sub(lowest).ok_or(SitesError::Order)?;
        loop {
            let low = rest.to_le_bytes()[0] & 0x7f;
            rest >>= 7;
            if rest == 0 {
                out.push(low);
                break;
            }
            out.push(low | 0x80);
        }
        next = site.checked_add(1);
    }
    Ok(out)
}

/// Reads what [`encode`] wrote and nothing else.
///
/// # Errors
/// [`SitesError`] for anything that `encode` would not have written.
pub fn parse(bytes: &[u8]) -> Result<Vec<u32>, SitesError> {
    let mut sites = Vec::new();
    let mut next = Some(0_u32);
    let (mut value, mut shift) = (0_u64, 0_u32);
    for byte in bytes {
        // Five bytes carry 35 bits, more are never needed.
        if shift > 28 {
            return Err(SitesError::Malformed);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 != 0 {
            shift = shift.saturating_add(7);
            continue;
        }
        if *byte == 0 && shift != 0 {
            return Err(SitesError::Malformed);
        }
        let difference = u32::try_from(value).map_err(|_| SitesError::Malformed)?;
        let site = next
            .and_then(|lowest| lowest.checked_add(difference))
            .ok_or(SitesError::Malformed)?;
        if sites.len() >= MAX_SITES {
            return Err(SitesError::TooMany);
        }
        sites.push(site);
        next = site.checked_add(1);
        (value, shift) = (0, 0);
    }
    if shift != 0 {
        return Err(SitesError::Malformed);
    }
    Ok(sites)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_order_and_range() {
        assert_eq!(encode(&[5, 5]), Err(SitesError::Order));
        assert_eq!(encode(&[5, 4]), Err(SitesError::Order));
        assert_eq!(encode(&[u32::MAX, 0]), Err(SitesError::Order));
        assert_eq!(
            parse(&encode(&[0, u32::MAX]).unwrap()),
            Ok(alloc::vec![0, u32::MAX])
        );
        assert_eq!(parse(&[0x80]), Err(SitesError::Malformed));
        assert_eq!(parse(&[0x80, 0]), Err(SitesError::Malformed));
        assert_eq!(parse(&[0xff; 6]), Err(SitesError::Malformed));
    }

    proptest! {
        #[test]
        fn round_trips(sites in prop::collection::btree_set(any::<u32>(), 0..200)) {
            let sites: Vec<u32> = sites.into_iter().collect();
            prop_assert_eq!(parse(&encode(&sites).unwrap()), Ok(sites));
        }

        #[test]
        fn hostile_bytes_never_panic_and_are_canonical(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            if let Ok(sites) = parse(&bytes) {
                prop_assert_eq!(encode(&sites).unwrap(), bytes);
            }
        }
    }
}
