// SPDX-License-Identifier: Apache-2.0
//! Wall and CPU time of whole processes. Machines are shared and noisy, so each
//! figure is the best and the median of several alternating runs.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};

/// Runs per figure.
pub(crate) const RUNS: usize = 7;

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sample {
    /// User and system time of the process and its children.
    pub(crate) cpu: Duration,
    /// Elapsed time.
    pub(crate) wall: Duration,
}

/// Runs of one subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    /// Adds one run.
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// The smallest CPU time in seconds.
    pub(crate) fn best_cpu(&self) -> f64 {
        self.sorted(|s| s.cpu).first().copied().unwrap_or(f64::NAN)
    }

    /// The median CPU time in seconds.
    pub(crate) fn median_cpu(&self) -> f64 {
        median(&self.sorted(|s| s.cpu))
    }

    /// The median wall time in seconds.
    pub(crate) fn median_wall(&self) -> f64 {
        median(&self.sorted(|s| s.wall))
    }

    fn sorted(&self, key: impl Fn(&Sample) -> Duration) -> Vec<f64> {
        let mut values: Vec<f64> = self.0.iter().map(|s| key(s).as_secs_f64()).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

impl FromIterator<Sample> for Samples {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// The middle of sorted values.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs a command to its successful end.
pub(crate) fn sample(command: &mut Command) -> Result<Sample> {
    let shown = format!("{command:?}");
    let before = children()?;
    let start = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("while starting {shown}"))?;
    let wall = start.elapsed();
    ensure!(
        output.status.success(),
        "{shown} ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Sample {
        cpu: children()?.saturating_sub(before),
        wall,
    })
}

/// A way to make the same command again and again.
pub(crate) type Make<'a> = &'a dyn Fn() -> Command;

/// Runs each command in turn, several times, so that noise hits all alike.
pub(crate) fn side_by_side<const N: usize>(makes: [Make<'_>; N]) -> Result<[Samples; N]> {
    let mut out = [const { Samples(Vec::new()) }; N];
    for _ in 0..RUNS {
        for (samples, make) in out.iter_mut().zip(makes) {
            samples.push(sample(&mut make())?);
        }
    }
    Ok(out)
}

/// CPU time of all children that have ended.
fn children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("while reading resource usage")?;
    let micros = |t: nix::sys::time::TimeVal| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        let micros = u64::try_from(t.tv_usec()).unwrap_or(0);
        Duration::from_micros(seconds * 1_000_000 + micros)
    };
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}
