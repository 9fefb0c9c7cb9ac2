// SPDX-License-Identifier: Apache-2.0
//! Which results of host calls are possible. Anything else is a lie and ends
//! the enclave.

use enclave_abi::call::Op;

use crate::errno::Errno;

/// What a successful call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Zero.
    Nothing,
    /// At most this number of bytes, the length of buffer `n` (of all kinds, in order).
    Count(usize),
    /// Elements of so many bytes in buffer `n`.
    Elements(usize, usize),
    /// A descriptor.
    Descriptor,
    /// A non-negative number.
    Number,
}

fn shape(op: Op) -> Shape {
    match op {
        Op::Read | Op::Write | Op::Pread | Op::Pwrite | Op::Getdents | Op::Send | Op::Recv => {
            Shape::Count(0)
        }
        Op::Readlink => Shape::Count(1),
        Op::Getsockopt => Shape::Count(0),
        Op::Poll => Shape::Elements(1, 8),
        Op::EpollWait => Shape::Elements(0, 12),
        Op::Open | Op::Eventfd | Op::EpollCreate | Op::Socket | Op::Accept => Shape::Descriptor,
        Op::Lseek | Op::Ioctl => Shape::Number,
        _ => Shape::Nothing,
    }
}

/// A result that no honest host gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impossible;

/// Checks the result of `op`. `lens` are the lengths of its buffers in order,
/// of both directions.
///
/// # Errors
/// [`Impossible`] for a lie; otherwise the inner result is the call's.
pub fn check(op: Op, result: i64, lens: &[usize]) -> Result<Result<u64, Errno>, Impossible> {
    if result < 0 {
        let errno = i32::try_from(-(i128::from(result)))
            .ok()
            .and_then(Errno::new)
            .ok_or(Impossible)?;
        return Ok(Err(errno));
    }
    let value = result.unsigned_abs();
    let limit = match shape(op) {
        Shape::Nothing => 0,
        Shape::Count(buffer) => lens.get(buffer).copied().unwrap_or(0) as u64,
        Shape::Elements(buffer, size) => (lens.get(buffer).copied().unwrap_or(0) / size) as u64,
        Shape::Descriptor => i32::MAX as u64,
        Shape::Number => i64::MAX as u64,
    };
    if value <= limit {
        Ok(Ok(value))
    } else {
        Err(Impossible)
    }
}

/// How many bytes of out buffer `index` (counted among all buffers) a
/// successful call has filled.
#[must_use]
pub fn filled(op: Op, value: u64, index: usize, len: usize) -> usize {
    match shape(op) {
        Shape::Count(buffer) if buffer == index => usize::try_from(value).unwrap_or(len).min(len),
        Shape::Elements(buffer, size) if buffer == index && op == Op::EpollWait => {
            usize::try_from(value)
                .unwrap_or(len)
                .saturating_mul(size)
                .min(len)
        }
        _ => len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn accepts_only_errnos_and_legal_counts(op in 0..Op::ALL.len(), result: i64, len in 0..70_000_usize) {
            let op = Op::ALL[op];
            if let Ok(answer) = check(op, result, &[len, len]) {
                match answer {
                    Ok(value) => prop_assert_eq!(i64::try_from(value), Ok(result)),
                    Err(errno) => prop_assert!((1..=4095).contains(&errno.number())),
                }
                if let (Ok(value), Op::Read | Op::Write | Op::Recv | Op::Getdents) = (answer, op) {
                    prop_assert!(value <= len as u64);
                }
            } else {
                prop_assert!(!(-4095..=0).contains(&result));
            }
        }
    }

    #[test]
    fn a_count_above_the_room_is_a_lie() {
        assert_eq!(check(Op::Read, 5, &[4]), Err(Impossible));
        assert_eq!(check(Op::Read, 4, &[4]), Ok(Ok(4)));
        assert_eq!(check(Op::Close, 1, &[]), Err(Impossible));
        assert_eq!(check(Op::Read, i64::MIN, &[4]), Err(Impossible));
        assert_eq!(check(Op::Open, 1 << 31, &[4]), Err(Impossible));
    }
}
