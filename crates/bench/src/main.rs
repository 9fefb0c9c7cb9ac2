// SPDX-License-Identifier: Apache-2.0
//! `make bench`: measures the bars side by side with native programs and named
//! peers, in one run, and prints one table. `ONLY=calls,starts` chooses groups.

mod calls;
mod report;
mod sample;
mod starts;
mod subject;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use demo::process::Programs;
use report::Report;

/// What every group needs.
#[derive(Debug)]
struct Bench {
    programs: Programs,
    dist: PathBuf,
    work: PathBuf,
}

type Group = (&'static str, fn(&Bench, &mut Report) -> Result<()>);

const GROUPS: [Group; 2] = [("calls", calls::measure), ("starts", starts::measure)];

fn main() -> Result<()> {
    let target =
        PathBuf::from(std::env::var_os("ENSCONCE_TARGET").unwrap_or_else(|| "target".into()));
    let target = target
        .canonicalize()
        .context("while looking for the target directory")?;
    let work = target.join("bench");
    if work.exists() {
        std::fs::remove_dir_all(&work).context("while removing the last run")?;
    }
    std::fs::create_dir_all(&work).context("while making the run's directory")?;
    let dist = target.join("dist");
    let bench = Bench {
        programs: Programs::in_dist(&dist)?,
        dist,
        work,
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut report = Report::default();
    for (name, measure) in GROUPS {
        if !only.is_empty() && !only.split(',').any(|wanted| wanted == name) {
            continue;
        }
        if let Err(error) = measure(&bench, &mut report) {
            report.missing(name, &format!("{error:#}"));
        }
    }
    println!("{}", report.table());
    Ok(())
}
