// SPDX-License-Identifier: Apache-2.0
//! What one system call costs.

use std::process::Command;

use anyhow::Result;

use crate::Bench;
use crate::report::Report;
use crate::sample::{RUNS, median};
use crate::subject::{Enclave, Link, Mode, compile, numbers, sources};

const ROUNDS: &str = "200000";
const HEAP: &str = "64M";

/// Calls served inside, forwarded from listed sites, forwarded from unknown ones.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let program = compile(&sources(), "calls", Link::Dynamic, &bench.work)?;
    let trap = compile(&sources(), "trap", Link::Dynamic, &bench.work)?;
    let enclave = Enclave::build(bench, &program, HEAP, &bench.work)?;
    let middle = |make: &dyn Fn() -> Command| -> Result<f64> {
        let mut values = Vec::new();
        for _ in 0..RUNS {
            values.extend(numbers(&mut make())?);
        }
        values.sort_by(f64::total_cmp);
        Ok(median(&values))
    };
    let native = |what: &'static str| {
        let program = program.clone();
        move || {
            let mut command = Command::new(&program);
            command.args([what, ROUNDS]);
            command
        }
    };
    let inside = |what: &'static str| {
        let enclave = &enclave;
        move || enclave.command(Mode::Fast, &["calls", what, ROUNDS])
    };
    let raw_trap = middle(&|| Command::new(&trap))?;
    let served = middle(&inside("inside"))?;
    let listed = middle(&inside("listed"))?;
    let unlisted = middle(&inside("unlisted"))?;
    let beside =
        |what| -> Result<String> { Ok(format!("native {:.0} ns", middle(&native(what))?)) };
    report.bar(
        "call served inside",
        served,
        "ns",
        200.0,
        false,
        &beside("inside")?,
    );
    report.bar(
        "host call from a listed site",
        listed,
        "ns",
        450.0,
        false,
        &beside("listed")?,
    );
    report.figure("bare syscall-user-dispatch trap", raw_trap, "ns", "");
    report.bar(
        "host call from an unlisted site",
        unlisted,
        "ns",
        (1.5 * (raw_trap + listed)).round(),
        false,
        &format!("bare trap {raw_trap:.0} ns + listed call {listed:.0} ns"),
    );
    Ok(())
}
