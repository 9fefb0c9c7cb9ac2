// SPDX-License-Identifier: Apache-2.0
//! Everything that the main job needs, made afresh in one directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::job::{Client, Converted, convert};
use crate::native::{self, Native};
use crate::process::Programs;
use crate::refusals::Scene;
use crate::services::Services;

/// Services, the native image and its converted form.
#[derive(Debug)]
pub struct Stage {
    /// The built programs.
    pub programs: Programs,
    /// The native image.
    pub native: Native,
    /// Platform, LAS and CAS; they end with the stage.
    pub services: Services,
    /// The converted image.
    pub converted: Converted,
    /// Where everything lies.
    pub work: PathBuf,
}

impl Stage {
    /// Builds the image, brings services up and converts. `work` is replaced.
    ///
    /// # Errors
    /// Something is missing or refuses.
    pub fn set(dist: &Path, cache: &Path, work: &Path) -> Result<Self> {
        if work.exists() {
            std::fs::remove_dir_all(work).context("while removing an earlier run")?;
        }
        std::fs::create_dir_all(work).context("while making the run's directory")?;
        let work = work.canonicalize()?;
        let programs = Programs::in_dist(dist)?;
        let native = native::build(cache, &work)?;
        let services = Services::start(&programs, &work)?;
        let converted = convert(&programs, &services, &native, &work)?;
        Ok(Self {
            programs,
            native,
            services,
            converted,
            work,
        })
    }

    /// What refusals are tried against.
    #[must_use]
    pub fn scene(&self) -> Scene<'_> {
        Scene {
            programs: &self.programs,
            services: &self.services,
            converted: &self.converted,
            work: &self.work,
        }
    }

    /// A client of the converted service.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.native.certificate, self.converted.port)
    }
}
