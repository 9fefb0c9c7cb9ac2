// SPDX-License-Identifier: Apache-2.0
//! Decides how each path is protected.

use oci::path::RootPath;
use oci::root::{NodeKind, ResolveError, RootView};
use shieldfs::region::{Class as Protection, Regions};

use super::request::{Request, Treatment};
use crate::console::Console;
use crate::exit::{Class, Classify as _, Failure};

/// Where the converter puts its own files.
pub(crate) const OWN: &str = "/ensconce";
/// Where the FSPF lies.
pub(crate) const FSPF_DIR: &str = "/fspf";

/// The region table and what follows from it for layers.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) regions: Regions,
    /// Paths whose content no layer may hold in clear.
    pub(crate) encrypted: Vec<RootPath>,
}

impl Plan {
    /// Applies the options to the defaults.
    pub(crate) fn new(
        request: &Request,
        view: &RootView,
        console: Console,
    ) -> Result<Self, Failure> {
        for own in [OWN, FSPF_DIR] {
            let path = RootPath::parse(own).class(Class::Internal, "Own path")?;
            if view.node(&path).is_some() {
                return Err(Failure::new(
                    Class::NativeImage,
                    format!("The image holds '{own}' already; is it a converted one?"),
                ));
            }
        }
        let mut plan = Self {
            regions: Regions::defaults(),
            encrypted: Vec::new(),
        };
        for (treatment, path) in &request.paths {
            plan.add(*treatment, path, view, console)?;
        }
        // What the kernel opens before it has a key stays readable.
        let own = RootPath::parse(OWN).class(Class::Internal, "Own path")?;
        if plan.class_of(&own) != Protection::Authenticated {
            plan.authenticate(&own)?;
        }
        let hosts: Vec<String> = plan
            .regions
            .iter()
            .filter(|(_, class)| *class == Protection::HostPath)
            .map(|(path, _)| oci::path::printable(path))
            .collect();
        if !hosts.is_empty() {
            console.notice(format!(
                "read from the container at run time, unprotected: {}",
                hosts.join(" ")
            ));
        }
        Ok(plan)
    }

    fn add(
        &mut self,
        treatment: Treatment,
        path: &RootPath,
        view: &RootView,
        console: Console,
    ) -> Result<(), Failure> {
        let option = treatment.option();
        let class = match treatment {
            Treatment::Encrypted => Protection::Encrypted,
            Treatment::HostPath => Protection::HostPath,
            Treatment::Plain | Treatment::PlainFile => Protection::Plain,
        };
        let found = match view.resolve(path) {
            Ok((found, node)) => {
                if treatment == Treatment::PlainFile && !matches!(node.kind, NodeKind::File(_)) {
                    return Err(Failure::new(
                        Class::Files,
                        format!(
                            "{option}={path} is no regular file in the image; for directories use --plain"
                        ),
                    ));
                }
                found
            }
            // Engines mount host paths at run time, so they may be absent.
            Err(ResolveError::Missing { .. }) if treatment == Treatment::HostPath => {
                console.warning(format!(
                    "{option}={path} does not exist in the image; the container must provide it"
                ));
                path.clone()
            }
            Err(error) => {
                return Err(Failure::new(
                    Class::Files,
                    format!("{option}={path} cannot be used: {error}"),
                )
                .with_help("name a path as it is inside the image, or leave the option out"));
            }
        };
        if found != *path {
            console.notice(format!(
                "{option}={path} leads to '{found}', which is meant"
            ));
        }
        if class == Protection::Plain {
            console.warning(format!(
                "'{found}' is read without any protection; code and configuration in it can be \
                 changed by anybody"
            ));
        }
        self.regions = std::mem::replace(&mut self.regions, Regions::defaults())
            .with(found.as_bytes(), class)
            .class(Class::Files, format!("{option}={path} cannot be used"))?;
        if class == Protection::Encrypted {
            self.encrypted.push(found);
        }
        Ok(())
    }

    /// Keeps a single file readable before any key is known.
    pub(crate) fn authenticate(&mut self, path: &RootPath) -> Result<(), Failure> {
        self.regions = std::mem::replace(&mut self.regions, Regions::defaults())
            .with(path.as_bytes(), Protection::Authenticated)
            .class(
                Class::Files,
                format!("'{path}' is needed before any key is known and cannot be treated so"),
            )?;
        Ok(())
    }

    /// How a path is protected.
    pub(crate) fn class_of(&self, path: &RootPath) -> Protection {
        self.regions.class_of(path.as_bytes())
    }
}
