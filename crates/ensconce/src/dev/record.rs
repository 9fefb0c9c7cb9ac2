// SPDX-License-Identifier: Apache-2.0
//! Which process is which service: small JSON files beside the logs.
//!
//! A process number alone says little, the system gives it to others later.
//! Number, start time and boot together name one process for ever.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::{Class, Classify as _, Failure};

/// Larger files are not ours.
const MAX_FILE: usize = 64 << 10;
/// Place of the start time among the fields of `/proc/PID/stat` behind the
/// name (proc(5): field 22, the name is field 2).
const START_FIELD: usize = 19;

/// One process, named for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Process number.
    pub(super) pid: i32,
    /// Start time in clock ticks after boot.
    pub(super) start_ticks: u64,
    /// Which boot.
    pub(super) boot_id: String,
    /// The socket on which it was told to listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) socket: Option<PathBuf>,
}

impl Record {
    /// The record of a process that was just started.
    pub(super) fn of(pid: i32, socket: Option<PathBuf>) -> io::Result<Self> {
        let start_ticks = start_ticks(pid)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process has ended"))?;
        Ok(Self {
            pid,
            start_ticks,
            boot_id: boot_id()?,
            socket,
        })
    }

    /// Reads a record; `None` if there is none, or if it cannot be ours.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).class(
                    Class::Internal,
                    format!("Cannot read the record '{}'", path.display()),
                );
            }
        };
        let record = Some(bytes)
            .filter(|bytes| bytes.len() <= MAX_FILE)
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        record.map(Some).ok_or_else(|| {
            Failure::new(
                Class::Internal,
                format!(
                    "'{}' is damaged; stop the service by hand if it runs, then remove the file",
                    path.display()
                ),
            )
        })
    }

    /// Writes the record, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            let new = path.with_extension("new");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        write().class(
            Class::Internal,
            format!("Cannot write the record '{}'", path.display()),
        )
    }

    /// Whether exactly this process still runs.
    pub(super) fn is_running(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
            && start_ticks(self.pid).is_ok_and(|ticks| ticks == Some(self.start_ticks))
    }
}

/// Start time of a process; `None` if it does not exist or has ended and only
/// waits to be collected.
fn start_ticks(pid: i32) -> io::Result<Option<u64>> {
    let stat = match fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // ESRCH: it ended between opening and reading.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok(parse_start_ticks(&stat))
}

fn parse_start_ticks(stat: &[u8]) -> Option<u64> {
    // The name may hold anything, also parentheses: look for the last one.
    let text = String::from_utf8_lossy(stat);
    let (_, behind) = text.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(START_FIELD - 1)?.parse().ok()
}

fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn own() -> Record {
        let pid = i32::try_from(std::process::id()).expect("process numbers fit");
        Record::of(pid, None).expect("this process runs")
    }

    #[test]
    fn this_process_is_recognised_and_no_other_that_got_its_number() {
        let record = own();
        assert!(record.is_running());
        let earlier = Record {
            start_ticks: record.start_ticks - 1,
            ..record.clone()
        };
        assert!(!earlier.is_running());
        let other_boot = Record {
            boot_id: "0".to_owned(),
            ..record
        };
        assert!(!other_boot.is_running());
    }

    #[test]
    fn a_process_that_was_not_collected_yet_has_ended() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let pid = i32::try_from(child.id()).expect("fits");
        while start_ticks(pid).expect("proc").is_some() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait().expect("it was there until now");
    }

    #[test]
    fn records_survive_files_and_damaged_ones_are_named() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("x.pid");
        assert_eq!(Record::read(&path).expect("absent"), None);
        let mut record = own();
        record.socket = Some("/s".into());
        record.write(&path).expect("write");
        assert_eq!(Record::read(&path).expect("read"), Some(record));
        fs::write(&path, "17").expect("write");
        assert!(Record::read(&path).is_err());
    }

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let fields = |name: &str, state: &str| {
            format!("7 ({name}) {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20")
        };
        for name in ["x", "a) Z 1 (b", ") 1"] {
            assert_eq!(
                parse_start_ticks(fields(name, "S").as_bytes()),
                Some(4242),
                "{name}"
            );
            assert_eq!(parse_start_ticks(fields(name, "Z").as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(stat: Vec<u8>) {
            let _ = parse_start_ticks(&stat);
        }
    }
}
