// SPDX-License-Identifier: Apache-2.0
//! Live x87, AVX2 and AVX-512 registers while a timer interrupts the enclave
//! every 50 microseconds, in both modes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use demo::process::run;

use crate::Bench;
use crate::report::Report;
use crate::subject::{Enclave, Link, Mode, compile};

/// The corpus' variable, for shorter or longer runs.
const SECONDS: &str = "ENSCONCE_TORTURE_SECONDS";

/// Natively, fast, strict.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let seconds = std::env::var(SECONDS).unwrap_or_else(|_| "60".to_owned());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ensconce/tests/programs");
    let program = compile(&sources, "torture", Link::Dynamic, &bench.work)?;
    let enclave = Enclave::build(bench, &program, "64M", &bench.work)?;
    let native = torture(Command::new(&program).arg(&seconds))?;
    for mode in [Mode::Fast, Mode::Strict] {
        let survived = torture(&mut enclave.command(mode, &["torture", &seconds]))
            .with_context(|| format!("{} mode", mode.word()))?;
        report.figure(
            &format!(
                "interruption torture, {} mode: rounds survived",
                mode.word()
            ),
            survived.rounds,
            &format!("in {seconds} s"),
            &format!(
                "{} timer signals, AVX-512 {}; native {} rounds, {} signals",
                survived.signals, survived.avx512, native.rounds, native.signals
            ),
        );
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Survived {
    rounds: f64,
    signals: f64,
    avx512: String,
}

fn torture(command: &mut Command) -> Result<Survived> {
    let finished = run(command)?;
    let said = finished.stderr.clone();
    let out = finished.success("torture")?;
    ensure!(out == "all registers survived\n", "torture printed {out:?}");
    parse(&said).with_context(|| format!("torture said {said:?}"))
}

/// `N rounds, N alarms, AVX-512 too|absent`, after whatever the launcher says.
fn parse(said: &str) -> Option<Survived> {
    let line = said.lines().find(|line| line.contains(" rounds, "))?;
    let mut parts = line.split(", ");
    Some(Survived {
        rounds: parts.next()?.strip_suffix(" rounds")?.parse().ok()?,
        signals: parts.next()?.strip_suffix(" alarms")?.parse().ok()?,
        avx512: parts.next()?.strip_prefix("AVX-512 ")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Survived, parse};

    #[test]
    fn rounds_and_signals_are_found_among_the_launchers_words() {
        let said = "notice: throw-away processor\n52 rounds, 1201 alarms, AVX-512 too\n";
        let expected = Survived {
            rounds: 52.0,
            signals: 1201.0,
            avx512: "too".to_owned(),
        };
        assert_eq!(parse(said), Some(expected));
        assert_eq!(parse("all rounds, no alarms\n"), None);
    }
}
