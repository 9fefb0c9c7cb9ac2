// SPDX-License-Identifier: Apache-2.0
//! Linux error numbers.

/// An error number as a system call returns it (without the sign).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// The error with this number, if Linux could return it.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        (1..=4095).contains(&number).then_some(Self(number))
    }

    /// The positive number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

macro_rules! errnos {
    ($($name:ident = $number:literal $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self($number);)*
        }
        impl core::fmt::Debug for Errno {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.0 { $($number => f.write_str(stringify!($name)),)* other => write!(f, "errno {other}") }
            }
        }
    };
}

errnos! {
    EPERM = 1 "Operation not permitted.";
    ENOENT = 2 "No such file or directory.";
    ESRCH = 3 "No such process.";
    EINTR = 4 "Interrupted system call.";
    EIO = 5 "Input/output error.";
    ENXIO = 6 "No such device or address.";
    E2BIG = 7 "Argument list too long.";
    ENOEXEC = 8 "Exec format error.";
    EBADF = 9 "Bad file descriptor.";
    ECHILD = 10 "No child processes.";
    EAGAIN = 11 "Resource temporarily unavailable.";
    ENOMEM = 12 "Cannot allocate memory.";
    EACCES = 13 "Permission denied.";
    EFAULT = 14 "Bad address.";
    EBUSY = 16 "Device or resource busy.";
    EEXIST = 17 "File exists.";
    EXDEV = 18 "Invalid cross-device link.";
    ENODEV = 19 "No such device.";
    ENOTDIR = 20 "Not a directory.";
    EISDIR = 21 "Is a directory.";
    EINVAL = 22 "Invalid argument.";
    ENFILE = 23 "Too many open files in system.";
    EMFILE = 24 "Too many open files.";
    ENOTTY = 25 "Inappropriate ioctl for device.";
    EFBIG = 27 "File too large.";
    ENOSPC = 28 "No space left on device.";
    ESPIPE = 29 "Illegal seek.";
    EROFS = 30 "Read-only file system.";
    EMLINK = 31 "Too many links.";
    EPIPE = 32 "Broken pipe.";
    EDOM = 33 "Argument out of domain.";
    ERANGE = 34 "Numerical result out of range.";
    EDEADLK = 35 "Resource deadlock avoided.";
    ENAMETOOLONG = 36 "File name too long.";
    ENOSYS = 38 "Function not implemented.";
    ENOTEMPTY = 39 "Directory not empty.";
    ELOOP = 40 "Too many levels of symbolic links.";
    ENODATA = 61 "No data available.";
    EPROTO = 71 "Protocol error.";
    EOVERFLOW = 75 "Value too large for defined data type.";
    ENOTSOCK = 88 "Socket operation on non-socket.";
    EDESTADDRREQ = 89 "Destination address required.";
    EMSGSIZE = 90 "Message too long.";
    EPROTOTYPE = 91 "Protocol wrong type for socket.";
    ENOPROTOOPT = 92 "Protocol not available.";
    EPROTONOSUPPORT = 93 "Protocol not supported.";
    ESOCKTNOSUPPORT = 94 "Socket type not supported.";
    EOPNOTSUPP = 95 "Operation not supported.";
    EAFNOSUPPORT = 97 "Address family not supported by protocol.";
    EADDRINUSE = 98 "Address already in use.";
    ECONNRESET = 104 "Connection reset by peer.";
    ENOBUFS = 105 "No buffer space available.";
    EISCONN = 106 "Transport endpoint is already connected.";
    ENOTCONN = 107 "Transport endpoint is not connected.";
    ETIMEDOUT = 110 "Connection timed out.";
    ECONNREFUSED = 111 "Connection refused.";
    EALREADY = 114 "Operation already in progress.";
    EINPROGRESS = 115 "Operation now in progress.";
}
