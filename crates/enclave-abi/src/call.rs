// SPDX-License-Identifier: Apache-2.0
//! The call area and the closed list of host calls.
//!
//! Each thread has one area outside ELRANGE: a header and a data part. A call
//! writes its number and up to eight argument words, copies input into the data
//! part and leaves the enclave; the host performs it, writes output into the
//! data part and the result into the header, and enters again.
//!
//! A buffer takes two argument words: its offset from the start of the data
//! part and its length. Offsets are multiples of 8, and both ends check that
//! `offset + len <= DATA_LEN`. Results are what Linux returns: a number, or a
//! negated errno in -4095..=-1. The kernel accepts nothing else, and no count
//! above the length it asked for.

/// Bytes of one call area.
pub const AREA_LEN: usize = 1 << 20;
/// Where the data part starts.
pub const DATA_OFFSET: usize = 256;
/// Bytes of the data part.
pub const DATA_LEN: usize = AREA_LEN - DATA_OFFSET;
/// Offset of the call's number (u64).
pub const OP_OFFSET: usize = 0;
/// Offset of the first argument word (8 × u64).
pub const ARGS_OFFSET: usize = 8;
/// Argument words.
pub const ARGS: usize = 8;
/// Offset of the result (i64).
pub const RESULT_OFFSET: usize = 72;

/// How one argument of a call is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// One word: a number.
    Value,
    /// One word: a host descriptor that an earlier call returned.
    Fd,
    /// Two words: bytes for the host.
    In,
    /// Two words: room for the host's bytes.
    Out,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $number:literal ( $($arg:ident),* ) ;)*) => {
        /// The closed list of host calls. Arguments in the order of [`Op::args`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u64)]
        pub enum Op { $($(#[$doc])* $name = $number,)* }

        impl Op {
            /// Every call, ascending.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The call with this number.
            #[must_use]
            pub fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// How its arguments are passed.
            #[must_use]
            pub fn args(self) -> &'static [Arg] {
                match self { $(Self::$name => &[$(Arg::$arg,)*],)* }
            }
        }
    };
}

calls! {
    // Threads and the enclave itself.
    /// status: ends the whole enclave with this exit status.
    Exit = 1 (Value);
    /// thread index: asks for a host thread that enters this TCS for the first time.
    Spawn = 2 (Value);
    /// Ends the calling host thread; never returns.
    ThreadExit = 3 ();
    /// timeout in ns (u64::MAX = none): sleeps until a wake token, a signal (-EINTR) or the
    /// timeout (-ETIMEDOUT). A token given earlier is consumed at once.
    Park = 4 (Value);
    /// thread index: gives that thread a wake token (at most one is kept).
    Unpark = 5 (Value);
    /// level, text: one line for the host's log; DEBUG enclaves only.
    Log = 6 (Value, In);
    /// [`super::entry::AbortReason`] number, text: why the enclave is about to end; fixed texts only.
    Complain = 7 (Value, In);
    /// signal, thread index or u64::MAX: makes a host thread leave the enclave soon, so that a
    /// pending in-enclave signal is looked at.
    Kick = 8 (Value, Value);
    /// signal: ends the host process by this signal (the program died of it).
    DieBySignal = 9 (Value);

    // Enclave memory (EDMM); address and length are page-aligned.
    /// address, length: EMODPR + ETRACK for read-only or less; permissions as SECINFO bits.
    Restrict = 16 (Value, Value, Value);
    /// address, length: EMODT to PT_TRIM; the kernel EACCEPTs, then calls `Remove`.
    Trim = 17 (Value, Value);
    /// address, length: EREMOVE of trimmed pages.
    Remove = 18 (Value, Value);

    // Files. Paths are absolute inside the container and resolved below its root.
    /// path, open flags (Linux), mode: a descriptor.
    Open = 32 (In, Value, Value);
    /// descriptor.
    Close = 33 (Fd);
    /// descriptor, buffer: stream read.
    Read = 34 (Fd, Out);
    /// descriptor, buffer: stream write.
    Write = 35 (Fd, In);
    /// descriptor, buffer, file offset.
    Pread = 36 (Fd, Out, Value);
    /// descriptor, buffer, file offset.
    Pwrite = 37 (Fd, In, Value);
    /// descriptor, room for `struct stat` (144 bytes).
    Fstat = 38 (Fd, Out);
    /// path, follow (0/1), room for `struct stat`.
    Stat = 39 (In, Value, Out);
    /// path, buffer.
    Readlink = 40 (In, Out);
    /// descriptor, buffer: `struct linux_dirent64` records.
    Getdents = 41 (Fd, Out);
    /// descriptor, offset, whence.
    Lseek = 42 (Fd, Value, Value);
    /// descriptor, length.
    Ftruncate = 43 (Fd, Value);
    /// descriptor, data only (0/1).
    Fsync = 44 (Fd, Value);
    /// path, remove a directory (0/1).
    Unlink = 45 (In, Value);
    /// old path, new path, renameat2 flags.
    Rename = 46 (In, In, Value);
    /// path, mode.
    Mkdir = 47 (In, Value);
    /// target, path.
    Symlink = 48 (In, In);
    /// old path, new path.
    Link = 49 (In, In);
    /// path, mode.
    Chmod = 50 (In, Value);
    /// path, uid, gid, follow (0/1).
    Chown = 51 (In, Value, Value, Value);
    /// path, two `struct timespec` (32 bytes), follow (0/1).
    Utimens = 52 (In, In, Value);
    /// path, mode (R_OK…).
    Access = 53 (In, Value);
    /// path, room for `struct statfs` (120 bytes).
    Statfs = 54 (In, Out);
    /// descriptor, mode, offset, length.
    Fallocate = 55 (Fd, Value, Value, Value);
    /// descriptor, operation.
    Flock = 56 (Fd, Value);

    // Descriptors of any kind.
    /// descriptor, status flags (only O_NONBLOCK and O_APPEND): F_SETFL.
    SetFlags = 64 (Fd, Value);
    /// descriptor, request, buffer in, buffer out: closed list TCGETS, TCSETS*, TIOCGWINSZ,
    /// TIOCGPGRP, FIONREAD, TIOCSWINSZ.
    Ioctl = 65 (Fd, Value, In, Out);
    /// descriptors as `struct pollfd` array in place (one buffer in, one out), timeout in ns
    /// (u64::MAX = none).
    Poll = 66 (In, Out, Value);
    /// initial value, flags: an eventfd.
    Eventfd = 67 (Value, Value);
    /// flags.
    EpollCreate = 68 (Value);
    /// epoll descriptor, operation, descriptor, events, user data.
    EpollCtl = 69 (Fd, Value, Fd, Value, Value);
    /// epoll descriptor, room for packed `struct epoll_event` (12 bytes each), timeout in ns
    /// (u64::MAX = none).
    EpollWait = 70 (Fd, Out, Value);

    // Sockets.
    /// domain, type, protocol.
    Socket = 80 (Value, Value, Value);
    /// descriptor, address.
    Bind = 81 (Fd, In);
    /// descriptor, address.
    Connect = 82 (Fd, In);
    /// descriptor, backlog.
    Listen = 83 (Fd, Value);
    /// descriptor, room for u32 length and address (4 + 128 bytes), flags.
    Accept = 84 (Fd, Out, Value);
    /// descriptor, room for u32 length and address.
    Getsockname = 85 (Fd, Out);
    /// descriptor, room for u32 length and address.
    Getpeername = 86 (Fd, Out);
    /// descriptor, level, option, value.
    Setsockopt = 87 (Fd, Value, Value, In);
    /// descriptor, level, option, buffer: result is the value's length.
    Getsockopt = 88 (Fd, Value, Value, Out);
    /// descriptor, data, address (may be empty), flags.
    Send = 89 (Fd, In, In, Value);
    /// descriptor, data, room for u32 address length, u32 msg_flags, address (8 + 128), flags.
    Recv = 90 (Fd, Out, Out, Value);
    /// descriptor, how.
    Shutdown = 91 (Fd, Value);

    // Time and timers.
    /// clock id (realtime, monotonic, boottime and their coarse forms, process and thread
    /// CPU time), room for two u64: seconds and nanoseconds.
    ClockGettime = 96 (Value, Out);
    /// interval timer (ITIMER_REAL only), interval ns, value ns: SIGALRM arrives as a hint.
    SetTimer = 97 (Value, Value);
    /// room for `struct rusage` (144 bytes), who.
    Getrusage = 98 (Value, Out);
}

/// Signals that the host may hint at, as a bitmap (bit n-1 = signal n): HUP, INT,
/// USR1, USR2, ALRM, TERM, CHLD, WINCH, QUIT. Everything else is dropped (rule S12).
pub const HINT_MASK: u64 =
    bit(1) | bit(2) | bit(3) | bit(10) | bit(12) | bit(14) | bit(15) | bit(17) | bit(28);

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_arguments_fit() {
        for pair in Op::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
        }
        for &op in Op::ALL {
            assert_eq!(Op::from_number(op as u64), Some(op));
            let words: usize = op
                .args()
                .iter()
                .map(|arg| match arg {
                    Arg::Value | Arg::Fd => 1,
                    Arg::In | Arg::Out => 2,
                })
                .sum();
            assert!(words <= ARGS, "{op:?}");
        }
    }
}
