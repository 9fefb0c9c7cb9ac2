// SPDX-License-Identifier: Apache-2.0
//! The demo's service once in strict mode, where every instruction of SGX is
//! emulated by its fault: slow on purpose, reported without a bar.

use anyhow::Result;

use crate::Bench;
use crate::flask::Flask;
use crate::report::Report;
use crate::subject::Mode;

const REQUESTS: u32 = 20;

/// Start and requests.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let flask = Flask::prepare(bench)?;
    for mode in [Mode::Fast, Mode::Strict] {
        let mut inside = flask.serve_inside(bench, mode)?;
        report.figure(
            &format!(
                "{} mode: start to the first HTTPS answer, wall",
                mode.word()
            ),
            inside.first_answer.as_secs_f64() * 1e3,
            "ms",
            "one run",
        );
        let asked = inside.ask(REQUESTS)?;
        let each = |seconds: f64| seconds * 1e3 / f64::from(REQUESTS);
        report.figure(
            &format!("{} mode: HTTPS request, CPU of the service", mode.word()),
            each(asked.cpu.as_secs_f64()),
            "ms",
            &format!(
                "wall {:.2} ms, {REQUESTS} requests",
                each(asked.wall.as_secs_f64())
            ),
        );
        inside.process.stop()?;
    }
    Ok(())
}
