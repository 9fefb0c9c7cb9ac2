// SPDX-License-Identifier: Apache-2.0
//! `~/.cas/config.json`: the client's identity and the CASes it knows. Mode 0600.
//!
//! Members that this version does not know are kept as they are.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use policy::KeyHash;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Address, Attestation, Identity, IdentityError};

const MAX_FILE: u64 = 4 << 20;

/// The client's state file.
pub struct State {
    path: PathBuf,
    identity: Identity,
    json: Map<String, Value>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("path", &self.path)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// A CAS that the client has seen before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownCas {
    /// `https://host:port` of the REST interface.
    pub url: String,
    /// Intermediate and root certificates as PEM.
    pub chain: String,
    /// Base58Check of the root key's hash.
    #[serde(default)]
    pub cas_key: Option<String>,
    /// Recorded without evidence, for development only.
    #[serde(default)]
    pub dev: bool,
}

/// The state file is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// No home directory.
    #[error("HOME is not set; name the configuration file with SCONE_CLI_CONFIG")]
    NoHome,
    /// A file operation failed.
    #[error("Cannot {action} '{path}'")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read the identity.
    #[error("'{path}' has mode {mode:04o} and holds your private key; run chmod 0600 '{path}'")]
    Open {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Not JSON of the expected shape.
    #[error("'{path}' is not a configuration file of the client")]
    Form {
        /// The file.
        path: String,
    },
    /// The identity in it is not usable.
    #[error("The identity in '{path}' is not usable")]
    Identity {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// The CAS has another key than recorded.
    #[error(
        "The CAS '{name}' now has the key {found}, recorded is {recorded}; if it was set up anew on purpose, remove it from cas_db in '{path}'"
    )]
    KeyChanged {
        /// Name of the CAS.
        name: String,
        /// The recorded hash.
        recorded: String,
        /// The hash found.
        found: KeyHash,
        /// The file.
        path: String,
    },
}

/// The identity in the JSON text of a state file, if it has one.
pub(super) fn identity_of_json(text: &str) -> Result<Option<Identity>, IdentityError> {
    #[derive(Deserialize)]
    struct Shape {
        identity: Option<Zeroizing<String>>,
    }
    let shape: Shape = serde_json::from_str(text).map_err(|_| IdentityError::NoIdentity)?;
    shape
        .identity
        .map(|pem| Identity::from_pem(&pem))
        .transpose()
}

impl State {
    /// The usual place: `SCONE_CLI_CONFIG`, else `~/.cas/config.json`.
    ///
    /// # Errors
    /// Neither variable is set.
    pub fn default_path() -> Result<PathBuf, StateError> {
        if let Some(path) = std::env::var_os("SCONE_CLI_CONFIG").filter(|p| !p.is_empty()) {
            return Ok(path.into());
        }
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let home = home.ok_or(StateError::NoHome)?;
        Ok(Path::new(&home).join(".cas").join("config.json"))
    }

    /// Reads the state, or makes it with a new identity.
    ///
    /// # Errors
    /// The file is not usable or others may read it.
    pub fn load_or_create(path: &Path) -> Result<Self, StateError> {
        let failed = |action, source| StateError::Io {
            action,
            path: path.display().to_string(),
            source,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path),
            Err(error) => return Err(failed("read", error)),
        };
        let mode = file.metadata().map_err(|e| failed("read", e))?.mode();
        if mode & 0o077 != 0 {
            return Err(StateError::Open {
                path: path.display().to_string(),
                mode: mode & 0o7777,
            });
        }
        let mut text = Zeroizing::new(String::new());
        let mut limited = file.take(MAX_FILE);
        limited
            .read_to_string(&mut text)
            .map_err(|e| failed("read", e))?;
        let form = || StateError::Form {
            path: path.display().to_string(),
        };
        let json: Map<String, Value> = serde_json::from_str(&text).map_err(|_| form())?;
        let bad_identity = |source| StateError::Identity {
            path: path.display().to_string(),
            source,
        };
        let identity = identity_of_json(&text).map_err(bad_identity)?;
        match identity {
            Some(identity) => Ok(Self {
                path: path.to_owned(),
                identity,
                json,
            }),
            None => {
                let identity = Identity::generate().map_err(bad_identity)?;
                let state = Self {
                    path: path.to_owned(),
                    identity,
                    json,
                };
                state.save()?;
                Ok(state)
            }
        }
    }

    fn create(path: &Path) -> Result<Self, StateError> {
        let identity = Identity::generate().map_err(|source| StateError::Identity {
            path: path.display().to_string(),
            source,
        })?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(parent);
            made.map_err(|source| StateError::Io {
                action: "make the directory of",
                path: path.display().to_string(),
                source,
            })?;
        }
        let state = Self {
            path: path.to_owned(),
            identity,
            json: Map::new(),
        };
        state.save()?;
        Ok(state)
    }

    /// The client's identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Gives up the state for its identity.
    pub fn into_identity(self) -> Identity {
        self.identity
    }

    /// Name of the default CAS.
    pub fn default_cas(&self) -> Option<&str> {
        self.json.get("default_cas")?.as_str()
    }

    /// A CAS by the name that it was recorded under.
    pub fn cas(&self, name: &str) -> Option<KnownCas> {
        let known = self.json.get("cas_db")?.get(name)?;
        serde_json::from_value(known.clone()).ok()
    }

    /// The recorded key hash of a CAS.
    pub fn pin(&self, name: &str) -> Option<KeyHash> {
        KeyHash::parse(self.cas(name)?.cas_key.as_deref()?).ok()
    }

    /// Records a CAS under `name`; the first one becomes the default. A CAS that is recorded already
    /// must still have its key.
    ///
    /// # Errors
    /// The key is another one, or the file cannot be written.
    pub fn record(
        &mut self,
        name: &str,
        address: &Address,
        seen: &Attestation,
    ) -> Result<(), StateError> {
        if let Some(recorded) = self.cas(name).and_then(|known| known.cas_key)
            && recorded != seen.key_hash.to_string()
        {
            return Err(StateError::KeyChanged {
                name: name.to_owned(),
                recorded,
                found: seen.key_hash,
                path: self.path.display().to_string(),
            });
        }
        let known = KnownCas {
            url: format!("https://{}", address.rest()),
            chain: seen.chain.clone(),
            cas_key: Some(seen.key_hash.to_string()),
            dev: seen.dev,
        };
        let form = || StateError::Form {
            path: self.path.display().to_string(),
        };
        let known = serde_json::to_value(known).map_err(|_| form())?;
        let all = self
            .json
            .entry("cas_db")
            .or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(all) = all else {
            return Err(form());
        };
        all.insert(name.to_owned(), known);
        if self.json.get("default_cas").is_none_or(Value::is_null) {
            let name = Value::String(name.to_owned());
            self.json.insert("default_cas".to_owned(), name);
        }
        self.save()
    }

    fn save(&self) -> Result<(), StateError> {
        let failed = |source| StateError::Io {
            action: "write",
            path: self.path.display().to_string(),
            source,
        };
        let mut json = self.json.clone();
        let pem = self.identity.to_pem().to_string();
        json.insert("identity".to_owned(), Value::String(pem));
        let text = serde_json::to_string_pretty(&json).map_err(|e| failed(e.into()))?;
        let text = Zeroizing::new(text);
        let mut part = self.path.as_os_str().to_owned();
        part.push(".part");
        // A left-over of an interrupted writing may have any mode.
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&part).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&part, &self.path).map_err(failed)
    }
}
