// SPDX-License-Identifier: Apache-2.0
//! The closed list of socket options. What is not on it is `ENOPROTOOPT`, so no
//! option ever does nothing silently.

use alloc::vec::Vec;

use super::{Domain, Identity};
use crate::errno::Errno;

/// SOL_SOCKET.
pub const SOCKET: u32 = 1;
/// IPPROTO_IP.
pub const IP: u32 = 0;
/// IPPROTO_TCP.
pub const TCP: u32 = 6;
/// IPPROTO_IPV6.
pub const IPV6: u32 = 41;

/// Options of SOL_SOCKET that the kernel itself knows something about.
pub mod name {
    /// SO_REUSEADDR.
    pub const REUSEADDR: u32 = 2;
    /// SO_TYPE.
    pub const TYPE: u32 = 3;
    /// SO_ERROR.
    pub const ERROR: u32 = 4;
    /// SO_BROADCAST.
    pub const BROADCAST: u32 = 6;
    /// SO_SNDBUF.
    pub const SNDBUF: u32 = 7;
    /// SO_RCVBUF.
    pub const RCVBUF: u32 = 8;
    /// SO_KEEPALIVE.
    pub const KEEPALIVE: u32 = 9;
    /// SO_LINGER.
    pub const LINGER: u32 = 13;
    /// SO_PEERCRED.
    pub const PEERCRED: u32 = 17;
    /// SO_RCVTIMEO.
    pub const RCVTIMEO: u32 = 20;
    /// SO_SNDTIMEO.
    pub const SNDTIMEO: u32 = 21;
    /// SO_ACCEPTCONN.
    pub const ACCEPTCONN: u32 = 30;
    /// SO_PROTOCOL.
    pub const PROTOCOL: u32 = 38;
    /// SO_DOMAIN.
    pub const DOMAIN: u32 = 39;
    /// SO_RCVTIMEO with 64-bit time: the same on x86-64.
    pub const RCVTIMEO_NEW: u32 = 66;
    /// SO_SNDTIMEO with 64-bit time: the same on x86-64.
    pub const SNDTIMEO_NEW: u32 = 67;
}

/// What an option's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An `int`.
    Int,
    /// An `int`, or one byte standing for it (options of IP).
    Small,
    /// `struct linger`.
    Linger,
    /// `struct ip_mreq` or `struct ip_mreqn`; only set.
    Group4,
    /// An `int`, `struct in_addr`, `struct ip_mreq` or `struct ip_mreqn`; only set.
    Interface4,
    /// `struct ipv6_mreq`; only set.
    Group6,
    /// An `int`; only read.
    Fact,
}

/// The form of an option that the host answers for; `None` if it is not served.
#[must_use]
pub fn form(level: u32, option: u32, identity: &Identity) -> Option<Form> {
    let is_ip = identity.domain != Domain::Unix;
    match level {
        SOCKET => socket_form(option, is_ip),
        TCP if is_ip && identity.is_stream() => tcp_form(option),
        // IPv6 sockets take options of IPv4 for mapped addresses.
        IP if is_ip => ip_form(option),
        IPV6 if identity.domain == Domain::V6 => ipv6_form(option),
        _ => None,
    }
}

fn socket_form(option: u32, is_ip: bool) -> Option<Form> {
    const DONTROUTE: u32 = 5;
    const OOBINLINE: u32 = 10;
    const PRIORITY: u32 = 12;
    const REUSEPORT: u32 = 15;
    const RCVLOWAT: u32 = 18;
    Some(match option {
        name::ERROR => Form::Fact,
        name::LINGER => Form::Linger,
        name::REUSEADDR | name::BROADCAST | name::SNDBUF | name::RCVBUF | name::KEEPALIVE => {
            Form::Int
        }
        DONTROUTE | OOBINLINE | PRIORITY | REUSEPORT | RCVLOWAT if is_ip => Form::Int,
        _ => return None,
    })
}

fn tcp_form(option: u32) -> Option<Form> {
    // NODELAY MAXSEG CORK KEEPIDLE KEEPINTVL KEEPCNT SYNCNT LINGER2 DEFER_ACCEPT
    // WINDOW_CLAMP; QUICKACK; USER_TIMEOUT; FASTOPEN (a listener's queue);
    // NOTSENT_LOWAT
    matches!(option, 1..=10 | 12 | 18 | 23 | 25).then_some(Form::Int)
}

fn ip_form(option: u32) -> Option<Form> {
    Some(match option {
        // TOS TTL MTU_DISCOVER RECVERR FREEBIND BIND_ADDRESS_NO_PORT MULTICAST_TTL MULTICAST_LOOP
        1 | 2 | 10 | 11 | 15 | 24 | 33 | 34 => Form::Small,
        14 => Form::Fact,        // MTU
        32 => Form::Interface4,  // MULTICAST_IF
        35 | 36 => Form::Group4, // ADD_MEMBERSHIP DROP_MEMBERSHIP
        _ => return None,
    })
}

fn ipv6_form(option: u32) -> Option<Form> {
    Some(match option {
        // UNICAST_HOPS MULTICAST_IF MULTICAST_HOPS MULTICAST_LOOP MTU_DISCOVER RECVERR V6ONLY TCLASS
        16..=19 | 23 | 25 | 26 | 67 => Form::Int,
        24 => Form::Fact,        // MTU
        20 | 21 => Form::Group6, // ADD_MEMBERSHIP DROP_MEMBERSHIP
        _ => return None,
    })
}

impl Form {
    /// The value that goes to the host: exactly the bytes of the structure.
    ///
    /// # Errors
    /// `EINVAL` if the program gave too few bytes; `ENOPROTOOPT` if it cannot be set.
    pub fn to_host(self, value: &[u8]) -> Result<Vec<u8>, Errno> {
        let cut = |len: usize| value.get(..len).map(<[u8]>::to_vec).ok_or(Errno::EINVAL);
        match self {
            Self::Int => cut(4),
            Self::Small => match value {
                [byte] | [byte, _] | [byte, _, _] => Ok(u32::from(*byte).to_le_bytes().to_vec()),
                _ => cut(4),
            },
            Self::Linger => cut(8),
            Self::Group4 if value.len() >= 12 => cut(12),
            Self::Group4 => cut(8),
            Self::Interface4 if value.len() >= 12 => cut(12),
            Self::Interface4 if value.len() >= 8 => cut(8),
            Self::Interface4 => cut(4),
            Self::Group6 => cut(20),
            Self::Fact => Err(Errno::ENOPROTOOPT),
        }
    }

    /// The length of the host's answer; `None` if it cannot be read.
    #[must_use]
    pub fn answer_len(self) -> Option<usize> {
        match self {
            Self::Int | Self::Small | Self::Fact => Some(4),
            Self::Linger => Some(8),
            Self::Group4 | Self::Interface4 | Self::Group6 => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(domain: u64, kind: u64) -> Identity {
        Identity::new(domain, kind, 0).unwrap()
    }

    #[test]
    fn options_belong_to_their_protocols() {
        let tcp = identity(2, 1);
        let udp6 = identity(10, 2);
        let unix = identity(1, 1);
        assert_eq!(form(TCP, 1, &tcp), Some(Form::Int));
        assert_eq!(form(TCP, 1, &udp6), None);
        assert_eq!(form(IPV6, 26, &udp6), Some(Form::Int));
        assert_eq!(form(IPV6, 26, &tcp), None);
        assert_eq!(form(IP, 1, &unix), None);
        assert_eq!(form(SOCKET, name::REUSEADDR, &unix), Some(Form::Int));
    }

    #[test]
    fn unlisted_options_are_not_served() {
        let tcp = identity(2, 1);
        for (level, option) in [
            (SOCKET, 16), // PASSCRED
            (SOCKET, 25), // BINDTODEVICE
            (SOCKET, 26), // ATTACH_FILTER
            (SOCKET, 29), // TIMESTAMP
            (TCP, 31),    // ULP: TLS outside the enclave
            (TCP, 11),    // INFO
            (IP, 8),      // PKTINFO
            (17, 103),    // UDP_SEGMENT
            (999, 1),
        ] {
            assert_eq!(form(level, option, &tcp), None, "{level} {option}");
        }
    }

    #[test]
    fn values_have_exactly_the_length_of_their_structure() {
        assert_eq!(
            Form::Int.to_host(&[1, 0, 0, 0, 9]),
            Ok([1, 0, 0, 0].to_vec())
        );
        assert_eq!(Form::Int.to_host(&[1, 0]), Err(Errno::EINVAL));
        assert_eq!(Form::Small.to_host(&[7]), Ok([7, 0, 0, 0].to_vec()));
        assert_eq!(Form::Small.to_host(&[]), Err(Errno::EINVAL));
        assert_eq!(Form::Linger.to_host(&[0; 4]), Err(Errno::EINVAL));
        assert_eq!(Form::Group4.to_host(&[0; 9]).unwrap().len(), 8);
        assert_eq!(Form::Fact.to_host(&[0; 4]), Err(Errno::ENOPROTOOPT));
    }
}
