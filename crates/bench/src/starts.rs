// SPDX-License-Identifier: Apache-2.0
//! What starting costs, and computing afterwards.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::Bench;
use crate::report::Report;
use crate::sample::{Samples, side_by_side};
use crate::subject::{Enclave, Link, Mode, compile, sources};

/// Debian's own, so that the same program runs natively and inside.
pub(crate) const PYTHON: &str = "/usr/bin/python3.11";
/// What to do where it is not.
pub(crate) const NO_PYTHON: &str = "there is no /usr/bin/python3.11: apt-get install python3";

/// Recursion, dictionaries and sorting: nothing that leaves the enclave, and
/// long enough that starting matters little.
const COMPUTE: &str = "
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
for _ in range(10):
    fib(27)
    d = {str(i): i for i in range(300000)}
    sum(d.values())
    sorted(range(300000), key=lambda i: -i)
";

/// `hello`, `python3 -c pass`, and computing in Python.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let hello = compile(&sources(), "hello", Link::Dynamic, &bench.work)?;
    let build = |program: &Path, heap| Enclave::build(bench, program, heap, &bench.work);
    let enclave = build(&hello, "64M")?;
    let [native, ours] = side_by_side([&|| Command::new(&hello), &|| {
        enclave.command(Mode::Fast, &["hello"])
    }])?;
    bar_ms(report, "C hello, CPU", &native, &ours, 10.0);

    let python = Path::new(PYTHON);
    if !python.exists() {
        report.missing("python3 -c pass", NO_PYTHON);
        return Ok(());
    }
    let enclave = build(python, "256M")?;
    let native = |code: &'static str| {
        move || {
            let mut command = Command::new(PYTHON);
            command.args(["-c", code]);
            command
        }
    };
    let pass = native("pass");
    let [beside, ours] = side_by_side([&pass, &|| {
        enclave.command(Mode::Fast, &["python3", "-c", "pass"])
    }])?;
    bar_ms(report, "python3 -c pass, CPU", &beside, &ours, 30.0);

    let compute = native(COMPUTE);
    let [beside, ours] = side_by_side([&compute, &|| {
        enclave.command(Mode::Fast, &["python3", "-c", COMPUTE])
    }])?;
    let ratio = ours.median_cpu() / beside.median_cpu();
    report.bar(
        "CPU-bound Python, CPU against native",
        ratio,
        "x",
        1.05,
        false,
        &format!(
            "native {:.0} ms, ours {:.0} ms, both with start-up; wall {:.2}x",
            beside.median_cpu() * 1e3,
            ours.median_cpu() * 1e3,
            ours.median_wall() / beside.median_wall()
        ),
    );
    Ok(())
}

fn bar_ms(report: &mut Report, what: &str, native: &Samples, ours: &Samples, limit: f64) {
    report.bar(
        what,
        ours.median_cpu() * 1e3,
        "ms",
        limit,
        false,
        &format!(
            "best {:.1} ms, wall {:.1} ms; native {:.1} ms",
            ours.best_cpu() * 1e3,
            ours.median_wall() * 1e3,
            native.median_cpu() * 1e3
        ),
    );
}
