// SPDX-License-Identifier: Apache-2.0
//! `HOST[:REST_PORT[:ATTESTED_PORT]]`.

use std::fmt;
use std::str::FromStr;

/// Where a CAS listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port of the REST interface.
    pub rest_port: u16,
    /// Port of the attested channel.
    pub attested_port: u16,
}

/// A text is not the address of a CAS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not the address of a CAS; write HOST[:REST_PORT[:ATTESTED_PORT]], an IPv6 host in brackets"
)]
pub struct AddressError {
    /// As given.
    pub text: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = || AddressError {
            text: text.chars().take(80).collect(),
        };
        let (host, rest) = match text.strip_prefix('[') {
            Some(inner) => {
                let (host, rest) = inner.split_once(']').ok_or_else(bad)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (host, rest)
            }
            None => match text.find(':') {
                Some(at) => text.split_at(at),
                None => (text, ""),
            },
        };
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
            return Err(bad());
        }
        let mut ports = rest.split(':');
        if ports.next() != Some("") {
            return Err(bad());
        }
        let mut port = |default| match ports.next() {
            None => Ok(default),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
                Ok(port) if port != 0 => Ok(port),
                _ => Err(bad()),
            },
            Some(_) => Err(bad()),
        };
        let address = Self {
            host: host.to_owned(),
            rest_port: port(crate::api::PORT)?,
            attested_port: port(crate::channel::PORT)?,
        };
        match ports.next() {
            None => Ok(address),
            Some(_) => Err(bad()),
        }
    }
}

impl Address {
    /// Host and REST port, as connections and URLs want them.
    pub fn rest(&self) -> String {
        self.with(self.rest_port)
    }

    /// Host and attested port, as `SCONE_CAS_ADDR` wants them.
    pub fn attested(&self) -> String {
        self.with(self.attested_port)
    }

    fn with(&self, port: u16) -> String {
        if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.rest(), self.attested_port)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn missing_ports_are_the_usual_ones() {
        for (text, rest, attested) in [
            ("cas", "cas:8081", "cas:18765"),
            ("cas.example:1", "cas.example:1", "cas.example:18765"),
            ("10.0.0.1:1:2", "10.0.0.1:1", "10.0.0.1:2"),
            ("[::1]:1:2", "[::1]:1", "[::1]:2"),
            ("[::1]", "[::1]:8081", "[::1]:18765"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.rest().as_str(), address.attested().as_str()),
                (rest, attested)
            );
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        for bad in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:1:2:3",
            "a:65536",
            "::1",
            "[a]:1",
            "[::1",
            "a/b",
            "a:+1",
            "https://a",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_refused(text in "[a-z0-9:\\[\\].]{0,20}") {
            let _ = text.parse::<Address>();
        }
    }
}
