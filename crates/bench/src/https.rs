// SPDX-License-Identifier: Apache-2.0
//! What an HTTPS request costs the service that answers it.

use anyhow::Result;

use crate::Bench;
use crate::flask::Flask;
use crate::process::most_resident;
use crate::report::Report;
use crate::sample::{RUNS, Samples};
use crate::subject::Mode;

/// Requests of one run, each with a TLS handshake.
const REQUESTS: u32 = 100;

/// The demo's service, natively and inside, asked in turn.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let flask = Flask::prepare(bench)?;
    let outside = flask.serve_natively(bench)?;
    let inside = flask.serve_inside(bench, Mode::Fast)?;
    // Both have imported what the first requests import.
    outside.ask(10)?;
    inside.ask(10)?;
    let (mut native, mut ours) = (Samples::default(), Samples::default());
    for _ in 0..RUNS {
        native.push(outside.ask(REQUESTS)?);
        ours.push(inside.ask(REQUESTS)?);
    }
    let each = |seconds: f64| seconds * 1e3 / f64::from(REQUESTS);
    report.bar(
        "HTTPS request, CPU of the service against native",
        ours.median_cpu() / native.median_cpu(),
        "x",
        2.0,
        false,
        &format!(
            "{:.2} ms against {:.2} ms per request (best {:.2} and {:.2}); wall {:.2} and {:.2} ms",
            each(ours.median_cpu()),
            each(native.median_cpu()),
            each(ours.best_cpu()),
            each(native.best_cpu()),
            each(ours.median_wall()),
            each(native.median_wall())
        ),
    );
    let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
    report.figure(
        "resident memory of the HTTPS service",
        mib(most_resident(inside.process.id())?),
        "MiB",
        &format!(
            "native {:.0} MiB",
            mib(most_resident(outside.process.id())?)
        ),
    );
    report.figure(
        "start to the first HTTPS answer, unpacked, wall",
        inside.first_answer.as_secs_f64() * 1e3,
        "ms",
        &format!("native {:.0} ms", outside.first_answer.as_secs_f64() * 1e3),
    );
    Ok(())
}
