// SPDX-License-Identifier: Apache-2.0
//! `make bench`: measures the bars side by side with native programs and named
//! peers, in one run, and prints one table.
//!
//! `ONLY=calls,starts` chooses groups, `KEEP=1` leaves their files.

mod attested;
mod calls;
mod convert;
mod docker;
mod flask;
mod https;
mod image;
mod many;
mod memory;
mod process;
mod protected;
mod report;
mod sample;
mod starts;
mod strict;
mod subject;
mod torture;
mod verify;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use demo::process::Programs;
use report::Report;

/// What every group needs.
#[derive(Debug)]
struct Bench {
    programs: Programs,
    dist: PathBuf,
    /// The target directory: what the demo keeps there is used again.
    target: PathBuf,
    /// Files of the group that is running.
    work: PathBuf,
}

impl Bench {
    fn launcher(&self) -> PathBuf {
        self.dist.join("libexec/launch")
    }
}

type Group = (&'static str, fn(&Bench, &mut Report) -> Result<()>);

/// Short ones first, so that a person who waits sees something.
const GROUPS: [Group; 12] = [
    ("calls", calls::measure),
    ("starts", starts::measure),
    ("memory", memory::measure),
    ("attested", attested::measure),
    ("https", https::measure),
    ("protected", protected::measure),
    ("many", many::measure),
    ("convert", convert::measure),
    ("docker", docker::measure),
    ("strict", strict::measure),
    ("torture", torture::measure),
    ("verify", verify::measure),
];

fn main() -> Result<()> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    for name in &only {
        ensure!(
            GROUPS.iter().any(|(known, _)| known == name),
            "ONLY={name}: no group is called so; there are: {}",
            GROUPS.map(|(known, _)| known).join(", ")
        );
    }
    let keep = std::env::var("KEEP").is_ok_and(|value| value == "1");
    let target =
        PathBuf::from(std::env::var_os("ENSCONCE_TARGET").unwrap_or_else(|| "target".into()));
    let target = target
        .canonicalize()
        .context("while looking for the target directory; run `make build` first")?;
    let dist = target.join("dist");
    let programs = Programs::in_dist(&dist)?;
    let all = target.join("bench");
    if all.exists() {
        fs::remove_dir_all(&all).context("while removing the last run")?;
    }

    let mut report = Report::default();
    for (name, measure) in GROUPS {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let bench = Bench {
            programs: programs.clone(),
            dist: dist.clone(),
            target: target.clone(),
            work: all.join(name),
        };
        fs::create_dir_all(&bench.work).context("while making a group's directory")?;
        if let Err(error) = measure(&bench, &mut report) {
            report.missing(name, &format!("{error:#}"));
        } else if !keep {
            fs::remove_dir_all(&bench.work).context("while removing a group's files")?;
        }
    }
    println!("{}\n{}", report.table(), report::PEERS);
    Ok(())
}
