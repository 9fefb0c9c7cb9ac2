// SPDX-License-Identifier: Apache-2.0
//! The configuration id that a start names, and its binding into the enclave (security rule S1).

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::name::{Name, SessionName};

/// Longest text that is looked at, in bytes.
pub const MAX_CONFIG_ID: usize = 2304;
/// Digits of a one-time password (RFC 6238 as sessions use it).
const OTP_DIGITS: usize = 6;
const DOMAIN: &[u8] = b"ensconce-config-v1";

/// `<session>/<service>[@<one-time password>]`, as in `SCONE_CONFIG_ID`.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigId {
    /// The session; may hold namespaces.
    pub session: SessionName,
    /// The service of the session.
    pub service: Name,
    /// The one-time password, six digits.
    pub otp: Option<Zeroizing<String>>,
}

/// A text is not a configuration id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigIdError {
    /// Too long to be looked at.
    #[error("The configuration id is longer than {MAX_CONFIG_ID} bytes")]
    TooLong,
    /// No `/` between session and service.
    #[error("A configuration id is written SESSION/SERVICE")]
    NoService,
    /// Session or service is not a valid name.
    #[error("The configuration id holds an invalid session or service name")]
    Name,
    /// What follows `@` is not six digits.
    #[error("A one-time password has six digits")]
    Otp,
}

impl FromStr for ConfigId {
    type Err = ConfigIdError;

    fn from_str(text: &str) -> Result<Self, ConfigIdError> {
        if text.len() > MAX_CONFIG_ID {
            return Err(ConfigIdError::TooLong);
        }
        let (id, otp) = match text.split_once('@') {
            Some((id, otp)) => {
                if otp.len() != OTP_DIGITS || !otp.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(ConfigIdError::Otp);
                }
                (id, Some(Zeroizing::new(otp.to_owned())))
            }
            None => (text, None),
        };
        let (session, service) = id.rsplit_once('/').ok_or(ConfigIdError::NoService)?;
        Ok(Self {
            session: SessionName::parse(session).map_err(|_| ConfigIdError::Name)?,
            service: Name::parse(service).map_err(|_| ConfigIdError::Name)?,
            otp,
        })
    }
}

impl fmt::Display for ConfigId {
    /// Writes `session/service`; the one-time password is a secret and left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.session, self.service)
    }
}

impl fmt::Debug for ConfigId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let otp = if self.otp.is_some() {
            "@[redacted]"
        } else {
            ""
        };
        write!(f, "ConfigId({self}{otp})")
    }
}

/// First half of SECS.CONFIGID for a service (security rule S1):
/// SHA-256("ensconce-config-v1" ‖ SHA-256 of the CAS root's SPKI ‖ session ‖ 0 ‖ service).
///
/// Names hold no zero byte, so the separator keeps different pairs apart.
pub fn config_id_hash(cas_root_spki_hash: &[u8; 32], session: &str, service: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(cas_root_spki_hash)
        .chain_update(session)
        .chain_update([0])
        .chain_update(service)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_segment_is_the_service() {
        let id: ConfigId = "acme/billing/api@123456".parse().unwrap();
        assert_eq!(id.session.as_str(), "acme/billing");
        assert_eq!(id.service.as_str(), "api");
        assert_eq!(id.otp.as_deref().map(String::as_str), Some("123456"));
        assert_eq!(id.to_string(), "acme/billing/api");
        assert!(!format!("{id:?}").contains("123456"));
    }

    #[test]
    fn refuses_what_is_not_a_configuration_id() {
        for (bad, why) in [
            ("api", ConfigIdError::NoService),
            ("/api", ConfigIdError::Name),
            ("a/", ConfigIdError::Name),
            ("a/b@", ConfigIdError::Otp),
            ("a/b@12345", ConfigIdError::Otp),
            ("a/b@12345x", ConfigIdError::Otp),
            ("a/../b", ConfigIdError::Name),
        ] {
            assert_eq!(bad.parse::<ConfigId>(), Err(why), "{bad}");
        }
    }

    #[test]
    fn the_binding_has_its_published_value() {
        // printf 'ensconce-config-v1%s' … | sha256sum with a key hash of 32 zero bytes, "s", 0, "t".
        let mut input = b"ensconce-config-v1".to_vec();
        input.extend_from_slice(&[0; 32]);
        input.extend_from_slice(b"s\0t");
        assert_eq!(
            config_id_hash(&[0; 32], "s", "t"),
            <[u8; 32]>::from(Sha256::digest(&input))
        );
        assert_eq!(
            hex::encode(config_id_hash(&[0; 32], "s", "t")),
            include_str!("../tests/golden/config-id-hash.hex").trim()
        );
        assert_ne!(
            config_id_hash(&[0; 32], "a/b", "c"),
            config_id_hash(&[0; 32], "a", "b/c")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,64}") {
            if let Ok(id) = text.parse::<ConfigId>() {
                let written = id.to_string();
                prop_assert_eq!(&written, text.split('@').next().unwrap());
            }
        }
    }
}
