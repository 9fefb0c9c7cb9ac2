// SPDX-License-Identifier: Apache-2.0
//! Socket addresses. Programs' are taken apart and built anew before they
//! leave, so that no uninitialised bytes do; the host's are checked against the
//! family that the socket has.

use alloc::vec::Vec;

use super::Domain;
use crate::errno::Errno;

/// Most bytes of an address (`struct sockaddr_storage`).
pub const MAX_LEN: usize = 128;
/// `struct sockaddr_in`.
const V4_LEN: usize = 16;
/// `struct sockaddr_in6`.
const V6_LEN: usize = 28;
/// The same without a scope (RFC 2133), which Linux accepts.
const V6_SHORT_LEN: usize = 24;
/// Most bytes of `sun_path`.
const UNIX_MAX: usize = 108;

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// AF_UNSPEC: dissolves a datagram socket's connection.
    Unspecified,
    /// AF_INET.
    V4 {
        /// Address.
        ip: [u8; 4],
        /// Port.
        port: u16,
    },
    /// AF_INET6.
    V6 {
        /// Address.
        ip: [u8; 16],
        /// Port.
        port: u16,
        /// Flow label as it stands in memory.
        flow: [u8; 4],
        /// Scope as it stands in memory.
        scope: [u8; 4],
    },
    /// AF_UNIX without a name.
    Unnamed,
    /// AF_UNIX at a path.
    Path(Vec<u8>),
    /// AF_UNIX with a name that is no path.
    Abstract(Vec<u8>),
}

impl Address {
    /// Takes a program's address.
    ///
    /// # Errors
    /// `EINVAL` for a wrong length, `EAFNOSUPPORT` for a family that is not served.
    pub fn from_program(bytes: &[u8]) -> Result<Self, Errno> {
        let (family, rest) = bytes.split_first_chunk::<2>().ok_or(Errno::EINVAL)?;
        if bytes.len() > MAX_LEN {
            return Err(Errno::EINVAL);
        }
        match u16::from_le_bytes(*family) {
            0 => Ok(Self::Unspecified),
            1 => {
                if rest.len() > UNIX_MAX {
                    return Err(Errno::EINVAL);
                }
                Ok(unix(rest))
            }
            2 if bytes.len() >= V4_LEN => v4(rest).ok_or(Errno::EINVAL),
            10 if bytes.len() >= V6_LEN => v6(rest).ok_or(Errno::EINVAL),
            10 if bytes.len() >= V6_SHORT_LEN => {
                let mut whole = rest.get(..V6_SHORT_LEN - 2).unwrap_or_default().to_vec();
                whole.resize(V6_LEN - 2, 0);
                v6(&whole).ok_or(Errno::EINVAL)
            }
            2 | 10 => Err(Errno::EINVAL),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// Takes an address of the host's: `room` holds `len` bytes of it. `None` if
    /// there is no address.
    ///
    /// # Errors
    /// `EIO` unless length and family are those of `domain` and nothing follows
    /// a path's end.
    pub fn from_host(room: &[u8], len: u32, domain: Domain) -> Result<Option<Self>, Errno> {
        if len == 0 {
            return Ok(None);
        }
        let bytes = usize::try_from(len)
            .ok()
            .and_then(|len| room.get(..len))
            .ok_or(Errno::EIO)?;
        let (family, rest) = bytes.split_first_chunk::<2>().ok_or(Errno::EIO)?;
        if u16::from_le_bytes(*family) != domain.number() {
            return Err(Errno::EIO);
        }
        let address = match domain {
            Domain::V4 if bytes.len() == V4_LEN => v4(rest),
            Domain::V6 if bytes.len() == V6_LEN => v6(rest),
            Domain::Unix if rest.len() <= UNIX_MAX + 1 => {
                let name = unix(rest);
                let has_junk = match &name {
                    // The host may count the NUL or not.
                    Self::Path(path) => rest.len() > path.len() + 1,
                    _ => false,
                };
                (!has_junk).then_some(name)
            }
            _ => None,
        };
        address.map(Some).ok_or(Errno::EIO)
    }

    /// The bytes of its `struct sockaddr`; everything unused is zero.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(V6_LEN);
        out.extend_from_slice(&self.family().to_le_bytes());
        match self {
            Self::Unspecified => out.resize(V4_LEN, 0),
            Self::V4 { ip, port } => {
                out.extend_from_slice(&port.to_be_bytes());
                out.extend_from_slice(ip);
                out.resize(V4_LEN, 0);
            }
            Self::V6 {
                ip,
                port,
                flow,
                scope,
            } => {
                out.extend_from_slice(&port.to_be_bytes());
                out.extend_from_slice(flow);
                out.extend_from_slice(ip);
                out.extend_from_slice(scope);
            }
            Self::Unnamed => {}
            Self::Path(path) => {
                out.extend_from_slice(path);
                // A path as long as the field has no NUL (unix(7)).
                if path.len() < UNIX_MAX {
                    out.push(0);
                }
            }
            Self::Abstract(name) => {
                out.push(0);
                out.extend_from_slice(name);
            }
        }
        out
    }

    fn family(&self) -> u16 {
        match self {
            Self::Unspecified => 0,
            Self::V4 { .. } => Domain::V4.number(),
            Self::V6 { .. } => Domain::V6.number(),
            Self::Unnamed | Self::Path(_) | Self::Abstract(_) => Domain::Unix.number(),
        }
    }
}

/// `struct sockaddr_in` after the family.
fn v4(rest: &[u8]) -> Option<Address> {
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (ip, _) = rest.split_first_chunk::<4>()?;
    Some(Address::V4 {
        ip: *ip,
        port: u16::from_be_bytes(*port),
    })
}

/// `struct sockaddr_in6` after the family.
fn v6(rest: &[u8]) -> Option<Address> {
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (flow, rest) = rest.split_first_chunk::<4>()?;
    let (ip, rest) = rest.split_first_chunk::<16>()?;
    let (scope, _) = rest.split_first_chunk::<4>()?;
    Some(Address::V6 {
        ip: *ip,
        port: u16::from_be_bytes(*port),
        flow: *flow,
        scope: *scope,
    })
}

/// `sun_path`.
fn unix(rest: &[u8]) -> Address {
    match rest.split_first() {
        None => Address::Unnamed,
        Some((0, name)) => Address::Abstract(name.to_vec()),
        Some(_) => {
            let path = rest.split(|byte| *byte == 0).next().unwrap_or_default();
            Address::Path(path.to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v6_bytes() -> Vec<u8> {
        let mut bytes = alloc::vec![10, 0, 0x1f, 0x90, 1, 2, 3, 4];
        bytes.extend_from_slice(&[0xfe; 16]);
        bytes.extend_from_slice(&[5, 0, 0, 0]);
        bytes
    }

    #[test]
    fn programs_addresses_are_built_anew() {
        let dirty = [2, 0, 0, 80, 127, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 7];
        let address = Address::from_program(&dirty).unwrap();
        assert_eq!(
            address,
            Address::V4 {
                ip: [127, 0, 0, 1],
                port: 80
            }
        );
        let mut clean = alloc::vec![2, 0, 0, 80, 127, 0, 0, 1];
        clean.resize(16, 0);
        assert_eq!(address.encode(), clean);
        assert_eq!(
            Address::from_program(b"\x01\0/run/x\0garbage")
                .unwrap()
                .encode(),
            b"\x01\0/run/x\0"
        );
    }

    #[test]
    fn addresses_of_every_family_survive() {
        for bytes in [
            v6_bytes(),
            b"\x01\0".to_vec(),
            b"\x01\0\0name\0with zeros".to_vec(),
            b"\x01\0/run/socket\0".to_vec(),
            [b"\x01\0".as_slice(), &[b'p'; 108]].concat(),
        ] {
            let address = Address::from_program(&bytes).unwrap();
            assert_eq!(address.encode(), bytes);
        }
    }

    #[test]
    fn lengths_and_families_of_programs_are_checked() {
        for bad in [
            [].as_slice(),
            &[2],
            &[2, 0, 0, 80, 127, 0, 0, 1],
            &v6_bytes()[..20],
            &[1; 129],
            &[[1, 0].as_slice(), &[b'p'; 109]].concat(),
        ] {
            assert_eq!(Address::from_program(bad), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(
            Address::from_program(&[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(Errno::EAFNOSUPPORT)
        );
        assert!(Address::from_program(&v6_bytes()[..24]).is_ok());
    }

    #[test]
    fn the_host_cannot_give_another_family_length_or_junk() {
        let v4 = [2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(Address::from_host(&v4, 16, Domain::V4).unwrap().is_some());
        assert_eq!(Address::from_host(&v4, 0, Domain::V4), Ok(None));
        for (room, len, domain) in [
            (v4.as_slice(), 16, Domain::V6),
            (&v4, 16, Domain::Unix),
            (&v4, 15, Domain::V4),
            (&v4, 17, Domain::V4),
            (&v4, 1, Domain::V4),
            (&v4, u32::MAX, Domain::V4),
            (b"\x01\0/run/x\0junk", 13, Domain::Unix),
            (&[1, 0, 0], 200, Domain::Unix),
        ] {
            assert_eq!(
                Address::from_host(room, len, domain),
                Err(Errno::EIO),
                "{len} {domain:?}"
            );
        }
        assert_eq!(
            Address::from_host(b"\x01\0/run/x\0", 9, Domain::Unix),
            Ok(Some(Address::Path(b"/run/x".to_vec())))
        );
        assert_eq!(
            Address::from_host(b"\x01\0/run/x\0", 8, Domain::Unix),
            Ok(Some(Address::Path(b"/run/x".to_vec())))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_accepted_is_canonical(
            bytes in prop::collection::vec(any::<u8>(), 0..140),
            family in 0..12_u8,
            len: u32,
        ) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = family;
            }
            if let Some(second) = bytes.get_mut(1) {
                *second = 0;
            }
            for domain in [Domain::Unix, Domain::V4, Domain::V6] {
                for len in [len, len % 140] {
                    if let Ok(Some(address)) = Address::from_host(&bytes, len, domain) {
                        let encoded = address.encode();
                        prop_assert!(encoded.len() <= MAX_LEN);
                        prop_assert_eq!(encoded.first().copied(), Some(domain.number() as u8));
                        prop_assert_eq!(Address::from_program(&encoded), Ok(address));
                    }
                }
            }
            if let Ok(address) = Address::from_program(&bytes) {
                prop_assert_eq!(Address::from_program(&address.encode()), Ok(address));
            }
        }
    }
}
