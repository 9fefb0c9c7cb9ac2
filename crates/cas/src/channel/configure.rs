// SPDX-License-Identifier: Apache-2.0
//! The configuration of an accepted service: placeholders replaced, keys resolved.
//!
//! Host arguments stay as `@@N` and host variables as `\@\@NAME` with an empty value: only the agent
//! knows what the host gave. So that nothing else looks like one, a resolved argument that starts with
//! `@@` is refused, and names cannot start with `\@\@`.

use attest::channel::config::{Config, Freshness, Head as WireHead, InjectionFile, LogLevel, Root};
use attest::channel::encoding::{Fixed, SecretBytes, SecretFixed, SecretText};
use policy::model::{Argument, FspfKey, Image, Service, Variable};
use policy::placeholder::{MissingSecret, Template};
use policy::{ConfigId, Name};
use zeroize::Zeroizing;

use crate::sessions::Active;
use crate::store::Head;

/// A configuration cannot be built from an accepted session.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigureError {
    /// A secret without value.
    #[error("A placeholder cannot be replaced")]
    Missing(#[from] MissingSecret),
    /// An argument or variable that is not text.
    #[error("{what} is not UTF-8 after its placeholders were replaced")]
    NotText {
        /// Which.
        what: String,
    },
    /// A resolved argument that looks like a host argument.
    #[error("Argument {index} starts with '@@' after its placeholders were replaced")]
    LooksLikeHost {
        /// Which, counted from 0.
        index: usize,
    },
    /// A file-system key that is not one.
    #[error("The secret '{name}' is not a key of 32 bytes")]
    Key {
        /// The secret.
        name: Name,
    },
    /// Something that uploads refuse.
    #[error("{what} is missing from the stored session")]
    Incomplete {
        /// What.
        what: &'static str,
    },
}

/// Values of all secrets of an active session.
struct Values<'a>(&'a Active);

impl Values<'_> {
    fn value(&self, name: &Name) -> Option<&[u8]> {
        let secret = self.0.session.secrets.get(name)?;
        let value = secret.value.as_ref();
        let value = value.or_else(|| self.0.record.generated(name))?;
        Some(value.as_slice())
    }

    fn resolve(&self, template: &Template) -> Result<Zeroizing<Vec<u8>>, MissingSecret> {
        template.resolve(|name| self.value(name))
    }

    fn text(
        &self,
        template: &Template,
        what: impl Fn() -> String,
    ) -> Result<SecretText, ConfigureError> {
        let bytes = self.resolve(template)?;
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| ConfigureError::NotText { what: what() })?;
        Ok(SecretText::from(text))
    }
}

/// Builds the configuration of the service `id` of an active session.
pub(super) fn configure(
    active: &Active,
    id: &ConfigId,
    head: &Head,
    cas_root_spki: &[u8; 32],
) -> Result<Config, ConfigureError> {
    let session = &active.session;
    let incomplete = |what| ConfigureError::Incomplete { what };
    let service = session.services.get(id.service.as_str());
    let service = service.ok_or_else(|| incomplete("the service"))?;
    let values = Values(active);
    let image = service
        .image
        .as_ref()
        .and_then(|name| session.images.get(name));
    Ok(Config {
        argv: arguments(service, &values)?,
        env: environment(service, &values)?,
        cwd: service.pwd.clone().unwrap_or_else(|| "/".to_owned()),
        root: root(service, &values)?,
        volumes: Vec::new(),
        files: files(image, &values)?,
        log: LogLevel::Error,
        head: WireHead {
            epoch: head.epoch,
            seq: head.seq,
            root: Fixed(head.root),
            freshness: Freshness::Degraded,
        },
        dev: true,
        cas_root_spki: Fixed(*cas_root_spki),
    })
}

fn arguments(service: &Service, values: &Values<'_>) -> Result<Vec<SecretText>, ConfigureError> {
    let command = service.command.as_ref();
    let command = command.ok_or(ConfigureError::Incomplete {
        what: "the command",
    })?;
    let mut arguments = Vec::with_capacity(command.len());
    for (index, argument) in command.iter().enumerate() {
        arguments.push(match argument {
            Argument::Host(n) => SecretText::new(format!("@@{n}")),
            Argument::Text(template) => {
                let text = values.text(template, || format!("Argument {index}"))?;
                if text.expose().starts_with("@@") {
                    return Err(ConfigureError::LooksLikeHost { index });
                }
                text
            }
        });
    }
    Ok(arguments)
}

fn environment(
    service: &Service,
    values: &Values<'_>,
) -> Result<Vec<(String, SecretText)>, ConfigureError> {
    let mut environment = Vec::with_capacity(service.environment.len());
    for (name, variable) in &service.environment {
        environment.push(match variable {
            Variable::Host => (format!(r"\@\@{name}"), SecretText::default()),
            Variable::Text(template) => {
                let text = values.text(template, || format!("Variable '{name}'"))?;
                (name.clone(), text)
            }
        });
    }
    Ok(environment)
}

fn root(service: &Service, values: &Values<'_>) -> Result<Option<Root>, ConfigureError> {
    let Some(fspf) = &service.fspf else {
        return Ok(None);
    };
    let key = match &fspf.key {
        FspfKey::Literal(key) => SecretFixed::new(**key),
        FspfKey::Secret(name) => {
            let value = values.value(name).and_then(|value| value.try_into().ok());
            let value = value.ok_or_else(|| ConfigureError::Key { name: name.clone() })?;
            SecretFixed::new(value)
        }
    };
    let tag = fspf
        .tag
        .ok_or(ConfigureError::Incomplete { what: "fspf_tag" })?;
    Ok(Some(Root {
        fspf_path: fspf.path.clone(),
        key,
        tag: Fixed(tag),
    }))
}

fn files(image: Option<&Image>, values: &Values<'_>) -> Result<Vec<InjectionFile>, ConfigureError> {
    let mut files = Vec::new();
    for (path, file) in image.iter().flat_map(|image| &image.injection_files) {
        let content = file.content.as_ref();
        let content = content.ok_or(ConfigureError::Incomplete {
            what: "the content of an injection file",
        })?;
        files.push(InjectionFile {
            path: path.clone(),
            mode: file.permission,
            content: SecretBytes::new(values.resolve(content)?.to_vec()),
        });
    }
    Ok(files)
}
