// SPDX-License-Identifier: Apache-2.0
//! The demo's service: the same Python and the same packages, once natively and
//! once in an enclave.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use demo::job::{self, Client, Converted};
use demo::native::{self, Native};
use demo::process::{Running, free_port, run};
use demo::services::Services;

use crate::Bench;
use crate::image::Unpacked;
use crate::process::cpu;
use crate::sample::Sample;
use crate::subject::Mode;

/// Both forms of the image, unpacked, and what they need.
#[derive(Debug)]
pub(crate) struct Flask {
    /// They end when this is dropped.
    _services: Services,
    native: Native,
    converted: Converted,
    outside: Unpacked,
    inside: Unpacked,
    port: u16,
}

/// A service that answers.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) process: Running,
    client: Client,
    /// From its start to its first answer.
    pub(crate) first_answer: Duration,
}

/// The demo's native image; its base is shared with the demo.
pub(crate) fn native_image(bench: &Bench) -> Result<Native> {
    native::build(&bench.target.join("demo/cache"), &bench.work)
}

impl Flask {
    /// Builds, converts and unpacks.
    pub(crate) fn prepare(bench: &Bench) -> Result<Self> {
        let services = Services::start(&bench.programs, &bench.work)?;
        let native = native_image(bench)?;
        let converted = job::convert(&bench.programs, &services, &native, &bench.work)?;
        let place = |name| bench.work.join(name);
        Ok(Self {
            outside: Unpacked::new(bench, &native.reference(), &place("outside"))?,
            inside: Unpacked::new(bench, &converted.reference, &place("inside"))?,
            port: free_port()?,
            _services: services,
            native,
            converted,
        })
    }

    /// Python of the native image without an enclave, in its own root directory.
    pub(crate) fn serve_natively(&self, bench: &Bench) -> Result<Serving> {
        let mut command = Command::new("unshare");
        command
            .arg("--map-root-user")
            .arg(format!("--root={}", self.outside.root().display()))
            .args(["--wd=/app", "/usr/bin/python3.11", "-B", "/app/rest_api.py"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LOCAL", "1")
            .env("PORT", self.port.to_string())
            .env("GREETING", "hello from outside")
            .stdin(Stdio::null());
        self.serve(&mut command, self.port, bench, "native.log")
    }

    /// The converted image.
    pub(crate) fn serve_inside(&self, bench: &Bench, mode: Mode) -> Result<Serving> {
        let mut command = self.inside.command(mode);
        self.serve(&mut command, self.converted.port, bench, "inside.log")
    }

    fn serve(&self, command: &mut Command, port: u16, bench: &Bench, log: &str) -> Result<Serving> {
        let client = Client::new(&self.native.certificate, port);
        let begin = Instant::now();
        let mut process = Running::start(command, log, bench.work.join(log))?;
        client.wait_until_serving(&mut process)?;
        let first_answer = begin.elapsed();
        client.post("/notes/bench", r#"{"kept":"for the bench"}"#)?;
        Ok(Serving {
            process,
            client,
            first_answer,
        })
    }
}

impl Serving {
    /// One client asks `count` times, each time over a new connection; the time
    /// is the service's alone.
    pub(crate) fn ask(&self, count: u32) -> Result<Sample> {
        let before = cpu(self.process.id())?;
        let begin = Instant::now();
        let url = self.client.url(&format!("/notes/bench?[1-{count}]"));
        let answers = run(self
            .client
            .curl()
            .args(["--write-out", "%{num_connects}\n", &url]))?
        .success("curl")?;
        let wall = begin.elapsed();
        let cpu = cpu(self.process.id())?.saturating_sub(before);
        let right = answers.matches("for the bench").count();
        ensure!(
            right == usize::try_from(count).context("requests")?,
            "{right} of {count} answers are right:\n{answers}"
        );
        let connections = answers.lines().filter(|&line| line == "1").count();
        ensure!(
            connections == right,
            "{connections} connections for {right} requests: they are not comparable"
        );
        Ok(Sample { cpu, wall })
    }
}
