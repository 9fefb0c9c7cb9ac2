// SPDX-License-Identifier: Apache-2.0
//! Where the parts lie that conversion puts into images: kernel.elf, agent
//! and launch.

use std::path::{Path, PathBuf};

use crate::exit::{Class, Classify as _, Failure};

/// Names the directory, for set-ups that are not installed.
const VARIABLE: &str = "ENSCONCE_LIBEXEC";

/// The directory with the parts.
#[derive(Debug, Clone)]
pub(crate) struct Libexec(PathBuf);

impl Libexec {
    /// `ENSCONCE_LIBEXEC`, else `../libexec` beside the executable's directory.
    pub(crate) fn find() -> Result<Self, Failure> {
        if let Some(directory) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            return Ok(Self(PathBuf::from(directory)));
        }
        let program =
            std::env::current_exe().class(Class::Internal, "Cannot find this program's path")?;
        let directory = program
            .parent()
            .and_then(Path::parent)
            .map(|prefix| prefix.join("libexec"))
            .filter(|directory| directory.is_dir());
        directory.map(Self).ok_or_else(|| {
            Failure::new(
                Class::Internal,
                format!(
                    "No directory 'libexec' beside '{}'; run 'make build', or name it with \
                     {VARIABLE}",
                    program.display()
                ),
            )
        })
    }

    /// The path of one part, which must exist.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.0.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(Failure::new(
            Class::Internal,
            format!(
                "'{}' is missing; run 'make build', or name its directory with {VARIABLE}",
                path.display()
            ),
        ))
    }

    /// The content of one part.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let path = self.path(name)?;
        std::fs::read(&path).class(Class::Internal, format!("Cannot read '{}'", path.display()))
    }
}
