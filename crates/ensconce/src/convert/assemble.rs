// SPDX-License-Identifier: Apache-2.0
//! Puts the result together: native layers without what is protected,
//! ciphertext, and our own layers above.

use std::path::Path;

use oci::compression::Level;
use oci::config::NativeConfig;
use oci::output::NewImage;
use oci::reference::Reference;
use oci::root::{RootView, Selection};

use super::binary::Binary;
use super::cache::Cache;
use super::enclave::Enclave;
use super::own;
use super::regions::{OWN, Plan};
use super::request::Request;
use super::seal::Sealed;
use super::startup::Startup;
use super::upload::Cas;
use crate::console::Console;
use crate::exit::{Class, Classify as _, Failure};

/// How many native layers became what.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Layers {
    pub(crate) reused: usize,
    pub(crate) rewritten: usize,
}

/// Everything that goes into the result.
pub(crate) struct Parts<'a> {
    pub(crate) request: &'a Request,
    pub(crate) view: &'a RootView,
    pub(crate) config: &'a NativeConfig,
    pub(crate) plan: &'a Plan,
    /// Entries of native layers that hold what is encrypted.
    pub(crate) selection: &'a Selection,
    pub(crate) binary: &'a Binary,
    pub(crate) startup: &'a Startup,
    pub(crate) sealed: &'a Sealed,
    pub(crate) enclave: &'a Enclave,
    pub(crate) agent: &'a [u8],
    pub(crate) launcher: &'a [u8],
    pub(crate) cas: &'a Cas,
    pub(crate) cache: Option<&'a Cache>,
}

impl Parts<'_> {
    /// Refuses files that are protected under one name and not under another.
    pub(crate) fn check_links(&self) -> Result<(), Failure> {
        let shared = &self.selection.shared_outside;
        let Some(first) = shared.first() else {
            return Ok(());
        };
        Err(Failure::new(
            Class::Files,
            format!(
                "'{first}' is the same file as one that --dir encrypts (a hard link; {} such \
                 names); encrypt its directory as well, or make it a copy",
                shared.len()
            ),
        ))
    }

    /// The new image and what became of the native layers.
    pub(crate) fn assemble(
        &self,
        console: Console,
        temp: &Path,
    ) -> Result<(NewImage, Layers), Failure> {
        // Archives for docker hold plain layers, and old daemons know no zstd.
        let level = match self.request.to {
            Reference::OciLayout { .. } => Level::Zstd(3),
            _ => Level::None,
        };
        let selection = self.selection;
        let mut counts = Layers::default();
        let mut layers = Vec::new();
        for (number, layer) in self.view.layers().iter().enumerate() {
            if selection.is_clean(number) {
                counts.reused += 1;
                layers.push(layer.blob().clone());
            } else {
                console.step(format!("rewrite layer {number} without protected files"));
                counts.rewritten += 1;
                let rewritten = self.view.rewrite_without(selection, number, level, temp);
                layers
                    .push(rewritten.class(Class::Files, format!("Cannot rewrite layer {number}"))?);
            }
        }
        layers.extend(self.sealed.layer.clone());
        let doing = "Cannot write the enclave's layers";
        layers.push(own::runtime(self, level, temp).class(Class::Files, doing)?);
        layers.push(own::enclave(self, level, temp).class(Class::Files, doing)?);
        let mut config = self.config.carry_over();
        if self.config.has_healthcheck {
            console.notice("HEALTHCHECK is left out: it would run outside the enclave");
        }
        config.entrypoint = vec![format!("{OWN}/launch")];
        config.env = self.environment();
        Ok((NewImage { config, layers }, counts))
    }

    fn environment(&self) -> Vec<(String, String)> {
        let options = &self.request.options;
        let session = self.request.session.as_str();
        let service = self.request.service.as_str();
        let mut env = vec![
            ("SCONE_CONFIG_ID".to_owned(), format!("{session}/{service}")),
            ("SCONE_HEAP".to_owned(), self.enclave.heap.to_string()),
            ("SCONE_STACK".to_owned(), self.enclave.stack.to_string()),
            ("SCONE_ALLOW_DLOPEN".to_owned(), options.dlopen.to_string()),
            ("SCONE_FORK".to_owned(), options.fork.to_string()),
        ];
        let mut add = |name: &str, value: String| env.push((name.to_owned(), value));
        if let Some(address) = &self.cas.address {
            add("SCONE_CAS_ADDR", address.attested());
        }
        if let Some(las) = &options.las {
            add("SCONE_LAS_ADDR", las.clone());
        }
        if let Some(level) = options.log {
            add("SCONE_LOG", level.to_owned());
        }
        let mode = match options.allow_emulated_platform {
            Some(_) => "sim",
            None => "hw",
        };
        add("SCONE_MODE", mode.to_owned());
        env
    }
}
