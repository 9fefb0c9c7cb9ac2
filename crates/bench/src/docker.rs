// SPDX-License-Identifier: Apache-2.0
//! From `docker run` to the first HTTPS answer, in an unprivileged container of
//! a real daemon.

use std::time::Instant;

use anyhow::Result;
use demo::dev::Dev;
use demo::docker::Docker;
use demo::job::Client;
use demo::process::{Running, free_port, run};

use crate::Bench;
use crate::flask::native_image;
use crate::report::Report;
use crate::sample::{RUNS, median};

const NATIVE: &str = "native:latest";
const NAME: &str = "bench";
const CONFIDENTIAL: &str = "confidential:latest";

/// The native image beside the converted one, started in turn.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    // Paths of unix sockets are short, those of target directories may not be.
    let short = tempfile::tempdir()?;
    let docker = Docker::start(&short.path().join("docker"))?;
    let dev = Dev::up(&bench.programs, short.path())?;
    let native = native_image(bench)?;
    docker.load(&native.reference(), NATIVE)?;
    let port = free_port()?;
    run(bench
        .programs
        .command("ensconce", short.path())
        .env("DOCKER_HOST", docker.host())
        .arg("convert")
        .arg(format!("--from={NATIVE}"))
        .arg(format!("--to={CONFIDENTIAL}"))
        .args(["--binary=/usr/bin/python3.11", "--dir=/app", "--dir=/tls"])
        .args(["--heap=1G", "--env=LOCAL=1", &format!("--env=PORT={port}")])
        .args(dev.conversion_arguments()))?
    .success("ensconce convert")?;

    let client = Client::new(&native.certificate, port);
    let start = |image: &str, options: &[String]| -> Result<f64> {
        let begin = Instant::now();
        let mut service = Running::start(
            &mut docker.container(options, image, &[]),
            "docker run",
            bench.work.join("container.log"),
        )?;
        client.wait_until_serving(&mut service)?;
        let took = begin.elapsed();
        // A first process without a handler does not hear SIGTERM.
        run(docker.client().args(["kill", NAME]))?.success("docker kill")?;
        service.wait()?;
        Ok(took.as_secs_f64())
    };
    let host = "--network=host".to_owned();
    let name = format!("--name={NAME}");
    let plain = [
        host.clone(),
        name.clone(),
        "--env=LOCAL=1".to_owned(),
        format!("--env=PORT={port}"),
    ];
    let attested = [host, name, format!("-v{}", dev.volume())];
    let (mut beside, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        beside.push(start(NATIVE, &plain)?);
        ours.push(start(CONFIDENTIAL, &attested)?);
    }
    beside.sort_by(f64::total_cmp);
    ours.sort_by(f64::total_cmp);
    report.bar(
        "docker run to the first HTTPS answer, wall",
        median(&ours),
        "s",
        1.5,
        false,
        &format!(
            "best {:.2} s; native {:.2} s",
            ours.first().copied().unwrap_or(f64::NAN),
            median(&beside)
        ),
    );
    Ok(())
}
