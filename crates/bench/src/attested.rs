// SPDX-License-Identifier: Apache-2.0
//! What an attested start costs everybody who takes part: the enclave, the
//! quoting service and the CAS.

use anyhow::Result;
use demo::process::Running;
use demo::services::Services;

use crate::Bench;
use crate::image::{Unpacked, convert, native};
use crate::process::cpu;
use crate::report::Report;
use crate::sample::{RUNS, Sample, Samples, sample};
use crate::subject::{Link, Mode, compile, sources};

/// A C program in an enclave whose heap may be 1 GiB.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let services = Services::start(&bench.programs, &bench.work)?;
    let program = compile(&sources(), "hello", Link::Static, &bench.work)?;
    let dir = bench.work.join("hello-image");
    let image = native(&dir, &program, &[], Vec::new())?;
    let image = convert(bench, &services, &image, &dir, &["--heap=1G"])?;
    let image = Unpacked::new(bench, &image, &dir.join("root"))?;

    // Caches of the services are warm in everyday life.
    sample(&mut image.command(Mode::Fast))?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let before = (cpu_of(&services.las)?, cpu_of(&services.cas)?);
        let enclave = sample(&mut image.command(Mode::Fast))?;
        runs.push(Run {
            enclave,
            las: cpu_of(&services.las)?.saturating_sub(before.0),
            cas: cpu_of(&services.cas)?.saturating_sub(before.1),
        });
    }
    let part = |of: &dyn Fn(&Run) -> std::time::Duration| -> Samples {
        let wall = |run: &Run| run.enclave.wall;
        runs.iter()
            .map(|run| Sample {
                cpu: of(run),
                wall: wall(run),
            })
            .collect()
    };
    let together = part(&|run| run.enclave.cpu + run.las + run.cas);
    let middle = |of: &dyn Fn(&Run) -> std::time::Duration| part(of).median_cpu() * 1e3;
    report.bar(
        "attested start with 1 GiB heap, CPU of all",
        together.median_cpu() * 1e3,
        "ms",
        120.0,
        false,
        &format!(
            "best {:.1} ms, wall {:.1} ms; enclave {:.1}, LAS {:.1}, CAS {:.1} ms",
            together.best_cpu() * 1e3,
            together.median_wall() * 1e3,
            middle(&|run| run.enclave.cpu),
            middle(&|run| run.las),
            middle(&|run| run.cas),
        ),
    );
    Ok(())
}

struct Run {
    enclave: Sample,
    las: std::time::Duration,
    cas: std::time::Duration,
}

fn cpu_of(service: &Running) -> Result<std::time::Duration> {
    cpu(service.id())
}
