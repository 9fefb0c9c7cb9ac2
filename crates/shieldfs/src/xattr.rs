// SPDX-License-Identifier: Apache-2.0
//! Extended attributes: per attribute `u8 name length, name, u32le value length, value`, names in
//! strictly ascending order.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::wire::{Reader, WireError};

/// Longest attribute name in bytes (Linux XATTR_NAME_MAX).
pub const MAX_NAME: usize = 255;
/// Longest attribute value in bytes (Linux XATTR_SIZE_MAX).
pub const MAX_VALUE: usize = 65_536;
/// Most bytes of one entry's encoded attributes.
pub const MAX_ENCODED: u64 = 1024 * 1024;

/// Names and values.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Why attributes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XattrError {
    /// An empty or overlong name, or one with a NUL byte.
    #[error("An extended attribute's name of {length} bytes is not allowed")]
    Name {
        /// Its length in bytes.
        length: usize,
    },
    /// A value longer than [`MAX_VALUE`].
    #[error("An extended attribute's value of {length} bytes is longer than {MAX_VALUE}")]
    Value {
        /// Its length in bytes.
        length: usize,
    },
    /// All together longer than [`MAX_ENCODED`].
    #[error("Extended attributes of {length} bytes are more than {MAX_ENCODED}")]
    Total {
        /// Their encoded length in bytes.
        length: u64,
    },
    /// Names are not in strictly ascending order.
    #[error("Extended attributes are not in strictly ascending order")]
    Order,
    /// The bytes end early.
    #[error("The bytes of the extended attributes are malformed")]
    Wire(#[from] WireError),
}

fn check(name: &[u8], value_length: usize) -> Result<(u8, u32), XattrError> {
    let length = name.len();
    if name.is_empty() || name.contains(&0) {
        return Err(XattrError::Name { length });
    }
    let name_length = u8::try_from(length).map_err(|_| XattrError::Name { length })?;
    let length = value_length;
    match u32::try_from(length) {
        Ok(value_length) if length <= MAX_VALUE => Ok((name_length, value_length)),
        _ => Err(XattrError::Value { length }),
    }
}

/// Canonical bytes of the attributes.
///
/// # Errors
/// Names or values out of bounds.
pub fn encode(xattrs: &Xattrs) -> Result<Vec<u8>, XattrError> {
    let mut out = Vec::new();
    for (name, value) in xattrs {
        let (name_length, value_length) = check(name, value.len())?;
        out.push(name_length);
        out.extend_from_slice(name);
        out.extend_from_slice(&value_length.to_le_bytes());
        out.extend_from_slice(value);
    }
    let length = out.len() as u64;
    if length > MAX_ENCODED {
        return Err(XattrError::Total { length });
    }
    Ok(out)
}

/// Reads what [`encode`] wrote and nothing else.
///
/// # Errors
/// [`XattrError`] for anything that `encode` would not have written.
pub fn parse(bytes: &[u8]) -> Result<Xattrs, XattrError> {
    let length = bytes.len() as u64;
    if length > MAX_ENCODED {
        return Err(XattrError::Total { length });
    }
    let mut reader = Reader::new(bytes);
    let mut xattrs = Xattrs::new();
    while !reader.is_empty() {
        let name_length = usize::from(reader.u8()?);
        let name = reader.bytes(name_length)?;
        let value_length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        check(name, value_length)?;
        let value = reader.bytes(value_length)?;
        if xattrs
            .last_key_value()
            .is_some_and(|(last, _)| last.as_slice() >= name)
        {
            return Err(XattrError::Order);
        }
        xattrs.insert(name.to_vec(), value.to_vec());
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_kept_on_both_sides() {
        let one = |name: &[u8], value: usize| {
            encode(&Xattrs::from([(name.to_vec(), alloc::vec![0; value])])).unwrap_err()
        };
        assert_eq!(one(b"", 0), XattrError::Name { length: 0 });
        assert_eq!(one(&[b'n'; 256], 0), XattrError::Name { length: 256 });
        assert_eq!(one(b"a\0", 0), XattrError::Name { length: 2 });
        assert_eq!(one(b"a", 65_537), XattrError::Value { length: 65_537 });
        assert_eq!(
            parse(b"\x01a\x01\0\x01\0"),
            Err(XattrError::Value { length: 65_537 })
        );
        assert_eq!(parse(b"\x01b\0\0\0\0\x01a\0\0\0\0"), Err(XattrError::Order));
    }

    proptest! {
        #[test]
        fn round_trips(xattrs in prop::collection::btree_map(
            prop::collection::vec(1_u8.., 1..20), prop::collection::vec(any::<u8>(), 0..200), 0..10)) {
            prop_assert_eq!(parse(&encode(&xattrs).unwrap()), Ok(xattrs));
        }

        #[test]
        fn hostile_bytes_never_panic_and_are_canonical(bytes in prop::collection::vec(0_u8..4, 0..100)) {
            if let Ok(xattrs) = parse(&bytes) {
                prop_assert_eq!(encode(&xattrs).unwrap(), bytes);
            }
        }
    }
}
