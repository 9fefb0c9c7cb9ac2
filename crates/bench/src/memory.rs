// SPDX-License-Identifier: Apache-2.0
//! Memory that an enclave keeps resident beyond what its program touches.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::Bench;
use crate::process::most_resident;
use crate::report::Report;
use crate::starts::{NO_PYTHON, PYTHON};
use crate::subject::{Enclave, Mode};

const MIB: f64 = 1024.0 * 1024.0;
/// What the program touches, in MiB.
const TOUCHED: f64 = 256.0;
/// Touches the memory, says so, and waits for the end of its input.
const TOUCH: &str = "
import sys
kept = bytearray(b'x') * (256 << 20)
print('ready', flush=True)
sys.stdin.read()
";

/// Python that holds 256 MiB in an enclave whose heap may be 1 GiB.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let python = Path::new(PYTHON);
    ensure!(python.exists(), NO_PYTHON);
    let enclave = Enclave::build(bench, python, "1G", &bench.work)?;
    let native = resident(Command::new(PYTHON).args(["-c", TOUCH]))?;
    let ours = resident(&mut enclave.command(Mode::Fast, &["python3", "-c", TOUCH]))?;
    report.bar(
        "resident memory beyond what the program touches",
        ours / MIB - TOUCHED,
        "MiB",
        40.0,
        false,
        &format!(
            "{TOUCHED:.0} MiB touched, 1 GiB heap; native python {:.1} MiB beyond",
            native / MIB - TOUCHED
        ),
    );
    Ok(())
}

/// Bytes that were resident at most until the program said `ready`.
fn resident(command: &mut Command) -> Result<f64> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("while starting {shown}"))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let most = most_resident(child.id());
    drop(child.stdin.take());
    let status = child.wait()?;
    ensure!(
        line == "ready\n" && status.success(),
        "{shown} printed {line:?} and ended with {status}"
    );
    most
}
