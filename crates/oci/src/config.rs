// SPDX-License-Identifier: Apache-2.0
//! Image configurations: what is read from a native one, and the one that a
//! result receives.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::manifest::Platform;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON of the expected shape.
    #[error("Image configuration is malformed")]
    Json(#[from] serde_json::Error),
    /// Layers and their digests differ in number.
    #[error("Image has {layers} layers and {diff_ids} layer digests")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// Not for linux on amd64.
    #[error("Image is for {os}/{architecture}; only linux/amd64 runs in an enclave")]
    Platform {
        /// Its operating system.
        os: String,
        /// Its processor.
        architecture: String,
    },
}

/// A native image's configuration, as far as it matters here. History and
/// labels are not even read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NativeConfig {
    /// `USER`: `user[:group]` by name or number; empty means root.
    pub user: String,
    /// `EXPOSE`: such as `443/tcp`.
    pub exposed_ports: BTreeSet<String>,
    /// `ENV` in order: name and value.
    pub env: Vec<(String, String)>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `VOLUME` paths.
    pub volumes: BTreeSet<String>,
    /// `WORKDIR`; empty means `/`.
    pub working_dir: String,
    /// `STOPSIGNAL`.
    pub stop_signal: Option<String>,
    /// Whether there is a `HEALTHCHECK`, which is never carried over.
    pub has_healthcheck: bool,
    /// Digests of the decompressed layers from the bottom.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default, deserialize_with = "or_default")]
    config: Section,
    rootfs: RootFs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Section {
    #[serde(default, deserialize_with = "or_default")]
    user: String,
    #[serde(default, deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    entrypoint: Words,
    #[serde(default, deserialize_with = "or_default")]
    cmd: Words,
    #[serde(default, deserialize_with = "or_default")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "or_default")]
    working_dir: String,
    #[serde(default)]
    stop_signal: Option<String>,
    #[serde(default)]
    healthcheck: Option<Healthcheck>,
}

/// A list of words; old images have a single string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Many(Vec<String>),
    One(String),
}

impl Default for Words {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Words {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::Many(words) => words,
            Self::One(word) => vec![word],
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Healthcheck {
    #[serde(default, deserialize_with = "or_default")]
    test: Vec<String>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

/// Tools written in Go store empty lists and maps as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl NativeConfig {
    /// Parses a configuration of OCI or docker and checks its platform.
    ///
    /// # Errors
    /// [`ConfigError::Json`], [`ConfigError::Platform`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let document: Document = serde_json::from_slice(bytes)?;
        let platform = Platform {
            architecture: document.architecture,
            os: document.os,
            variant: None,
        };
        if !platform.is_linux_amd64() {
            return Err(ConfigError::Platform {
                os: crate::path::printable(platform.os.as_bytes()),
                architecture: crate::path::printable(platform.architecture.as_bytes()),
            });
        }
        let section = document.config;
        let env = section.env.into_iter().map(|variable| {
            match variable.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                // Docker starts such a program with an empty value.
                None => (variable, String::new()),
            }
        });
        Ok(Self {
            user: section.user,
            exposed_ports: section.exposed_ports.into_keys().collect(),
            env: env.collect(),
            entrypoint: section.entrypoint.into_vec(),
            cmd: section.cmd.into_vec(),
            volumes: section.volumes.into_keys().collect(),
            working_dir: section.working_dir,
            stop_signal: section.stop_signal.filter(|signal| !signal.is_empty()),
            has_healthcheck: section
                .healthcheck
                .is_some_and(|check| check.test.first().is_some_and(|word| word != "NONE")),
            diff_ids: document.rootfs.diff_ids,
        })
    }

    /// What a result keeps: user, ports, volumes and stop signal. Everything
    /// that could tell about the program starts empty.
    #[must_use]
    pub fn carry_over(&self) -> ResultConfig {
        ResultConfig {
            user: self.user.clone(),
            exposed_ports: self.exposed_ports.clone(),
            volumes: self.volumes.clone(),
            stop_signal: self.stop_signal.clone(),
            env: Vec::new(),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            working_dir: "/".to_owned(),
        }
    }
}

/// The configuration of a new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultConfig {
    /// `USER`.
    pub user: String,
    /// `EXPOSE`.
    pub exposed_ports: BTreeSet<String>,
    /// `VOLUME`.
    pub volumes: BTreeSet<String>,
    /// `STOPSIGNAL`.
    pub stop_signal: Option<String>,
    /// `ENV` in order.
    pub env: Vec<(String, String)>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `WORKDIR`.
    pub working_dir: String,
}

#[derive(Serialize)]
struct NewDocument<'a> {
    architecture: &'a str,
    config: NewSection<'a>,
    created: &'a str,
    os: &'a str,
    rootfs: NewRootFs<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewSection<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cmd: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entrypoint: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<&'a str, Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<&'a str, Empty>,
    #[serde(skip_serializing_if = "str::is_empty")]
    working_dir: &'a str,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct NewRootFs<'a> {
    diff_ids: &'a [Digest],
    #[serde(rename = "type")]
    kind: &'a str,
}

impl ResultConfig {
    /// The configuration's JSON; equal inputs give equal bytes, so there is
    /// no time of creation and no history.
    ///
    /// # Errors
    /// [`ConfigError::Json`], which strings and lists cannot cause.
    pub fn encode(&self, diff_ids: &[Digest]) -> Result<Vec<u8>, ConfigError> {
        fn keys(set: &BTreeSet<String>) -> BTreeMap<&str, Empty> {
            set.iter().map(|key| (key.as_str(), Empty {})).collect()
        }
        let env = self.env.iter();
        let document = NewDocument {
            architecture: "amd64",
            config: NewSection {
                cmd: &self.cmd,
                entrypoint: &self.entrypoint,
                env: env.map(|(name, value)| format!("{name}={value}")).collect(),
                exposed_ports: keys(&self.exposed_ports),
                stop_signal: self.stop_signal.as_deref(),
                user: &self.user,
                volumes: keys(&self.volumes),
                working_dir: &self.working_dir,
            },
            created: "1970-01-01T00:00:00Z",
            os: "linux",
            rootfs: NewRootFs {
                diff_ids,
                kind: "layers",
            },
        };
        Ok(serde_json::to_vec(&document)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NATIVE: &str = r#"{
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {
            "User": "1000:1000", "ExposedPorts": {"443/tcp": {}}, "Env": ["PATH=/bin", "SECRET=s3cr3t=", "BARE"],
            "Entrypoint": ["/entry"], "Cmd": null, "Volumes": {"/data": {}}, "WorkingDir": "/app",
            "Labels": {"owner": "label-marker"}, "StopSignal": "SIGINT",
            "Healthcheck": {"Test": ["CMD", "curl"]}, "OnBuild": null
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]},
        "history": [{"created_by": "history-marker"}]
    }"#;

    #[test]
    fn docker_configurations_are_understood() {
        let config = NativeConfig::parse(NATIVE.as_bytes()).expect("valid");
        assert_eq!(config.user, "1000:1000");
        assert_eq!(config.entrypoint, ["/entry"]);
        assert!(config.cmd.is_empty());
        assert_eq!(config.working_dir, "/app");
        assert_eq!(config.diff_ids, [Digest::of(b"abc")]);
        assert!(config.has_healthcheck);
        assert_eq!(
            config.env,
            [("PATH", "/bin"), ("SECRET", "s3cr3t="), ("BARE", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn results_keep_four_things_and_tell_nothing_else() {
        let native = NativeConfig::parse(NATIVE.as_bytes()).expect("valid");
        let mut result = native.carry_over();
        result.entrypoint = vec!["/launch".to_owned()];
        let bytes = result.encode(&native.diff_ids).expect("encode");
        let text = String::from_utf8(bytes.clone()).expect("JSON is UTF-8");
        for gone in [
            "s3cr3t",
            "label-marker",
            "history",
            "curl",
            "/entry",
            "PATH",
            "/app",
        ] {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
        let read = NativeConfig::parse(&bytes).expect("own output");
        assert_eq!(read.user, native.user);
        assert_eq!(read.exposed_ports, native.exposed_ports);
        assert_eq!(read.volumes, native.volumes);
        assert_eq!(read.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(read.diff_ids, native.diff_ids);
        assert_eq!(read.entrypoint, ["/launch"]);
        assert!(!read.has_healthcheck);
    }

    #[test]
    fn other_platforms_are_refused_by_name() {
        let arm = NATIVE.replace("amd64", "arm64");
        let error = NativeConfig::parse(arm.as_bytes()).expect_err("arm");
        assert!(error.to_string().contains("linux/arm64"), "{error}");
    }

    #[test]
    fn disabled_healthchecks_are_none() {
        let none = NATIVE.replace(r#"["CMD", "curl"]"#, r#"["NONE"]"#);
        let config = NativeConfig::parse(none.as_bytes()).expect("valid");
        assert!(!config.has_healthcheck);
    }

    proptest! {
        #[test]
        fn arbitrary_configurations_never_panic(text in "[\\[\\]{}\":,a-zA-Z0-9 ]{0,200}") {
            let _ = NativeConfig::parse(text.as_bytes());
        }
    }
}
