// SPDX-License-Identifier: Apache-2.0
//! Removing the state: only what `up` made, by name. The directory may hold
//! files of somebody else, and those stay.

use std::fs;
use std::io;
use std::path::Path;

use super::down::remove;
use super::place::Place;
use super::services::{ALL, log_file};
use crate::exit::{Class, Classify as _, Failure};

/// Says that `up` made the platform, so that `down --purge` removes it.
pub(super) const MADE_PLATFORM: &str = "made-platform";
/// Held while services are started or stopped.
pub(super) const LOCK: &str = "lock";

/// Removes everything that `up` made. Nothing runs any more.
pub(super) fn purge(place: &Place) -> Result<(), Failure> {
    remove_tree(&place.file("cas"))?;
    let marker = place.file(MADE_PLATFORM);
    if marker.exists() {
        remove_tree(&place.platform)?;
        remove(&marker)?;
    }
    for service in ALL {
        let log = log_file(place, service);
        remove(&log.with_extension("log.old"))?;
        remove(&log)?;
    }
    remove(&place.file(LOCK))?;
    // Directories that are not empty hold somebody else's files.
    let _ = fs::remove_dir(place.file("run"));
    let _ = fs::remove_dir(&place.state);
    Ok(())
}

fn remove_tree(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).class(
            Class::Internal,
            format!("Cannot remove '{}'", path.display()),
        ),
        _ => Ok(()),
    }
}
