// SPDX-License-Identifier: Apache-2.0
//! The services as a developer brings them up: `ensconce dev up`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::{Programs, run};

/// Services that `ensconce dev` looks after; stopped when this is dropped.
#[derive(Debug)]
pub struct Dev {
    programs: Programs,
    home: PathBuf,
    cas: String,
    anchor: String,
}

impl Dev {
    /// Brings everything up below `home`, with a socket that user 1000 of
    /// containers may use.
    ///
    /// # Errors
    /// `ensconce dev up` fails, or does not say what it should.
    pub fn up(programs: &Programs, home: &Path) -> Result<Self> {
        let up = run(programs
            .command("ensconce", home)
            .args(["dev", "up", "--api-port=0", "--attested-port=0"])
            .args(["--allow-user=1000", "--dir"])
            .arg(home.join("dev")))?
        .success("ensconce dev up")?;
        let said = |name: &str| {
            let line = up.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
                .with_context(|| format!("ensconce dev up does not say '{name}':\n{up}"))
        };
        Ok(Self {
            programs: programs.clone(),
            home: home.to_path_buf(),
            cas: said("CAS  ")?,
            anchor: said("anchor  ")?,
        })
    }

    /// What `ensconce dev up` says to give to conversions.
    #[must_use]
    pub fn conversion_arguments(&self) -> Vec<String> {
        vec![
            format!("--cas={}", self.cas),
            "--cas-debug".into(),
            "--allow-debug-mode".into(),
            format!("--allow-emulated-platform={}", self.anchor),
        ]
    }

    /// What `ensconce dev up` says to give to `docker run`.
    #[must_use]
    pub fn volume(&self) -> String {
        format!("{}:/run/ensconce", self.home.join("dev/run").display())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = run(self
            .programs
            .command("ensconce", &self.home)
            .args(["dev", "down", "--dir"])
            .arg(self.home.join("dev")));
    }
}
