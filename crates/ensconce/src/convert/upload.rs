// SPDX-License-Identifier: Apache-2.0
//! The CAS: found and checked before anything is built, because its key is
//! measured; given the session when everything else is ready.

use std::path::Path;

use cas::client::{Address, Client, ClientError, EXIT_CAS, Identity, State};

use super::request::Request;
use super::session::Document;
use crate::console::Console;
use crate::exit::{Class, Classify as _, Failure};

/// What a CAS says whose newest state a quorum of witnesses countersigned;
/// anything else is worth telling.
const WITNESSED: &str = "witnessed";

/// A CAS that may receive the session, or only be named in it.
#[derive(Debug)]
pub(crate) struct Cas {
    /// Host and attested port for the launcher.
    pub(crate) address: Option<Address>,
    /// SHA-256 of the root key's SubjectPublicKeyInfo.
    pub(crate) pin: Option<[u8; 32]>,
    client: Option<Client>,
}

/// Finds the CAS and, unless the upload is switched off, checks it.
pub(crate) fn find(request: &Request, console: Console) -> Result<Cas, Failure> {
    let options = &request.options;
    let given = options
        .cas
        .as_deref()
        .map(str::parse::<Address>)
        .transpose()
        .class(Class::Usage, "--cas cannot be used")?;
    if options.disable_session_upload || options.dry_run {
        return Ok(offline(options.cas.as_deref(), given));
    }
    let path = State::default_path().class(Class::Cas, "No client configuration")?;
    let mut state =
        State::load_or_create(&path).class(Class::Cas, "The client configuration is not usable")?;
    let Some(name) = options
        .cas
        .clone()
        .or_else(|| state.default_cas().map(str::to_owned))
    else {
        return Err(Failure::new(
            Class::Usage,
            "No CAS is named: give --cas=HOST[:REST_PORT[:ATTESTED_PORT]], or \
             --disable-session-upload to only write the session to a file",
        ));
    };
    let address = match given {
        Some(address) => address,
        None => name
            .parse()
            .class(Class::Cas, "default_cas of the client configuration")?,
    };
    let identity = identity(options.identity.as_deref(), &state)?;
    let pin = state.pin(&name);
    console.step(format!("ask the CAS at {}", address.rest()));
    let client = Client::new(address.clone(), pin, None);
    let seen = client
        .attest()
        .class(Class::Cas, "The CAS cannot be used")
        .map_err(|failure| {
            failure.with_help(
                "check --cas; 'ensconce dev up' starts a CAS for development; \
                 --disable-session-upload does without one",
            )
        })?;
    if seen.dev && !options.cas_debug {
        return Err(Failure::new(
            Class::Cas,
            format!(
                "The CAS at {} is a development CAS, which can read every secret; \
                 --cas-debug accepts it for development",
                address.rest()
            ),
        ));
    }
    if !seen.dev {
        // Evidence of a CAS in an enclave cannot be checked yet, and nothing
        // may be sent to one that was not.
        return Err(Failure::new(
            Class::Cas,
            format!(
                "The CAS at {} claims to run in an enclave, and checking its evidence is not \
                 supported yet",
                address.rest()
            ),
        ));
    }
    if pin.is_none() {
        console.warning(format!(
            "first use of the CAS at {}: its key {} is recorded without evidence",
            address.rest(),
            seen.key_hash
        ));
        state
            .record(&name, &address, &seen)
            .class(Class::Cas, "The CAS's key cannot be recorded")?;
    }
    if seen.freshness != WITNESSED {
        console.step(format!("freshness of the CAS: {}", seen.freshness));
    }
    Ok(Cas {
        pin: Some(*seen.key_hash.as_bytes()),
        client: Some(Client::new(
            address.clone(),
            Some(seen.key_hash),
            Some(identity),
        )),
        address: Some(address),
    })
}

/// Without contact, a key that was recorded earlier is still pinned.
fn offline(name: Option<&str>, address: Option<Address>) -> Cas {
    let pin = name.and_then(|name| {
        let path = State::default_path().ok()?;
        // Reading makes the file if it is missing, which a dry run must not.
        path.is_file().then_some(())?;
        State::load_or_create(&path).ok()?.pin(name)
    });
    Cas {
        address,
        pin: pin.map(|hash| *hash.as_bytes()),
        client: None,
    }
}

fn identity(path: Option<&Path>, state: &State) -> Result<Identity, Failure> {
    match path {
        Some(path) => Identity::from_file(path).class(
            Class::Cas,
            format!("--identity={} cannot be used", path.display()),
        ),
        None => Identity::from_pem(state.identity().to_pem()).class(
            Class::Cas,
            "The identity of the client configuration cannot be used",
        ),
    }
}

impl Cas {
    /// Creates or updates the session, if there is a CAS to receive it.
    pub(crate) fn upload(&self, document: &Document, console: Console) -> Result<(), Failure> {
        let Some(client) = &self.client else {
            return Ok(());
        };
        let uploaded = client
            .create_or_update(document.text(), true)
            .map_err(classified)?;
        for warning in &uploaded.warnings {
            console.step(format!("session: {warning}"));
        }
        console.step(format!(
            "session {} {}",
            uploaded.name,
            if uploaded.created {
                "created"
            } else {
                "updated"
            }
        ));
        Ok(())
    }
}

fn classified(error: ClientError) -> Failure {
    let class = if error.exit_code() == EXIT_CAS {
        Class::Cas
    } else {
        Class::Session
    };
    // A CAS does not tell strangers whether a session exists or is not theirs.
    let is_foreign = matches!(
        error,
        ClientError::Refused {
            status: 403 | 404 | 409,
            ..
        }
    );
    let failure = Failure::of(class, error, "The session was not accepted");
    if !is_foreign {
        return failure;
    }
    failure.with_help(
        "somebody else made a session of this name: take another --name, or its owner's --identity",
    )
}

#[cfg(test)]
mod tests {
    use attest::channel::config::Freshness;

    use super::*;

    #[test]
    fn the_quiet_word_is_the_one_of_the_protocol() {
        let word = serde_json::to_value(Freshness::Witnessed).expect("plain value");
        assert_eq!(word, WITNESSED);
    }
}
