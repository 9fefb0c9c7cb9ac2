// SPDX-License-Identifier: Apache-2.0
//! Syscall-site lists: where the syscall instructions of an ELF file are and what a stub in their
//! place repeats.
//!
//! In memory a list is flat: two words per site, the offset in the file and 16 bits that only the
//! user of the list interprets. Offsets ascend strictly. Stored, an offset is the difference to
//! the lowest one still possible in unsigned LEB128, followed by the 16 bits as `u16le`.

use alloc::vec::Vec;

/// Most sites one file may list.
pub const MAX_SITES: usize = 1 << 20;
/// Most bytes of an encoded list; seven per site.
pub const MAX_ENCODED: u64 = 7 << 20;

/// Why a list was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SitesError {
    /// Offsets are not strictly ascending.
    #[error("Syscall sites are not in strictly ascending order")]
    Order,
    /// The words do not come in pairs.
    #[error("A syscall site lacks its second word")]
    Pairs,
    /// More than 16 bits in a second word.
    #[error("The second word {found} of a syscall site does not fit 16 bits")]
    Word {
        /// The word found.
        found: u32,
    },
    /// More than [`MAX_SITES`].
    #[error("More than {MAX_SITES} syscall sites")]
    TooMany,
    /// A number that is cut off, longer than needed or larger than 32 bits.
    #[error("The bytes of the syscall-site list are malformed")]
    Malformed,
}

/// Canonical bytes of a flat list of pairs.
///
/// # Errors
/// Any [`SitesError`] but [`SitesError::Malformed`].
pub fn encode(words: &[u32]) -> Result<Vec<u8>, SitesError> {
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(SitesError::Pairs);
    }
    if pairs.len() > MAX_SITES {
        return Err(SitesError::TooMany);
    }
    let mut out = Vec::with_capacity(words.len().saturating_mul(2));
    let mut next = Some(0_u32);
    for [site, word] in pairs {
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
        let word = u16::try_from(*word).map_err(|_| SitesError::Word { found: *word })?;
        out.extend_from_slice(&word.to_le_bytes());
        next = site.checked_add(1);
    }
    Ok(out)
}

/// Reads what [`encode`] wrote and nothing else, again as a flat list of pairs.
///
/// # Errors
/// [`SitesError`] for anything that `encode` would not have written.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<u32>, SitesError> {
    let mut words = Vec::new();
    let mut next = Some(0_u32);
    while !bytes.is_empty() {
        let difference = number(&mut bytes)?;
        let (word, rest) = bytes.split_first_chunk().ok_or(SitesError::Malformed)?;
        bytes = rest;
        let site = next
            .and_then(|lowest| lowest.checked_add(difference))
            .ok_or(SitesError::Malformed)?;
        if words.len() >= MAX_SITES * 2 {
            return Err(SitesError::TooMany);
        }
        words.extend([site, u16::from_le_bytes(*word).into()]);
        next = site.checked_add(1);
    }
    Ok(words)
}

/// Takes the shortest LEB128 form of a number of 32 bits off the front.
fn number(bytes: &mut &[u8]) -> Result<u32, SitesError> {
    let mut value = 0_u64;
    // Five bytes carry 35 bits, more are never needed.
    for shift in [0, 7, 14, 21, 28] {
        let (byte, rest) = bytes.split_first().ok_or(SitesError::Malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if *byte == 0 && shift != 0 {
                break;
            }
            return u32::try_from(value).map_err(|_| SitesError::Malformed);
        }
    }
    Err(SitesError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_order_and_range() {
        assert_eq!(encode(&[5, 0, 5, 0]), Err(SitesError::Order));
        assert_eq!(encode(&[5, 0, 4, 0]), Err(SitesError::Order));
        assert_eq!(encode(&[u32::MAX, 0, 0, 0]), Err(SitesError::Order));
        assert_eq!(encode(&[5, 0, 6]), Err(SitesError::Pairs));
        assert_eq!(
            encode(&[5, 0x1_0000]),
            Err(SitesError::Word { found: 0x1_0000 })
        );
        let widest = [0, 0, u32::MAX, 0xffff];
        assert_eq!(parse(&encode(&widest).unwrap()).unwrap(), widest);
    }

    #[test]
    fn bytes_that_are_cut_off_or_not_shortest_are_refused() {
        for bytes in [
            &[0x80][..],
            &[0x80, 0, 1, 0],
            &[0xff; 6],
            &[5],
            &[5, 1],
            &[0xff, 0xff, 0xff, 0xff, 0x1f, 0, 0],
        ] {
            assert_eq!(parse(bytes), Err(SitesError::Malformed), "{bytes:?}");
        }
        // The second offset would lie behind the last possible one.
        let mut beyond = encode(&[u32::MAX, 0]).unwrap();
        beyond.extend([0, 0, 0]);
        assert_eq!(parse(&beyond), Err(SitesError::Malformed));
    }

    proptest! {
        #[test]
        fn round_trips(sites in prop::collection::btree_map(any::<u32>(), any::<u16>(), 0..200)) {
            let words: Vec<u32> = sites.into_iter().flat_map(|(at, word)| [at, word.into()]).collect();
            prop_assert_eq!(parse(&encode(&words).unwrap()), Ok(words));
        }

        #[test]
        fn hostile_bytes_never_panic_and_are_canonical(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            if let Ok(sites) = parse(&bytes) {
                prop_assert_eq!(encode(&sites).unwrap(), bytes);
            }
        }
    }
}
