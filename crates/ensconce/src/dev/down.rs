// SPDX-License-Identifier: Apache-2.0
//! `ensconce dev down`.

use std::os::unix::net::UnixStream;
use std::path::Path;

use super::place::Place;
use super::process::{Stopped, stop};
use super::record::Record;
use super::services::{ALL, LAS, ready_file, record_file};
use super::{purge, up};
use crate::exit::{Class, Classify as _, Failure};

/// Stops both services and removes what only running services need.
pub(super) fn down(place: &Place, is_purging: bool) -> Result<(), Failure> {
    if !place.state.exists() {
        println!(
            "nothing to stop: '{}' does not exist",
            place.state.display()
        );
        return Ok(());
    }
    let lock = up::lock(place)?;
    // The CAS first: it may be talking to the LAS.
    for service in ALL.into_iter().rev() {
        let file = record_file(place, service);
        let Some(record) = Record::read(&file)? else {
            println!("{service}: not running");
            continue;
        };
        let outcome = stop(&record)?;
        println!(
            "{service}: {}",
            match outcome {
                Stopped::Ended => "stopped",
                Stopped::Killed => "killed, it did not end when asked to",
                Stopped::WasNotRunning => "had ended already",
            }
        );
        if service == LAS
            && let Some(socket) = &record.socket
            // If somebody answers, it is somebody else's by now.
            && UnixStream::connect(socket).is_err()
        {
            remove(socket)?;
        }
        remove(&file)?;
    }
    remove(&ready_file(place))?;
    if is_purging {
        purge::purge(place)?;
        println!(
            "removed: keys, sessions and logs in '{}'",
            place.state.display()
        );
    }
    drop(lock);
    Ok(())
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).class(
            Class::Internal,
            format!("Cannot remove '{}'", path.display()),
        ),
        _ => Ok(()),
    }
}
