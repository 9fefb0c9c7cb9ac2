// SPDX-License-Identifier: Apache-2.0
//! What a running process has used so far, as its kernel accounts for it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::ClockId;
use nix::unistd::Pid;

/// CPU time of a process: all its threads, those that have ended too.
pub(crate) fn cpu(id: u32) -> Result<Duration> {
    let pid = Pid::from_raw(i32::try_from(id).context("process number")?);
    let clock = ClockId::pid_cpu_clock_id(pid)
        .with_context(|| format!("while looking for the CPU clock of process {id}"))?;
    let time = clock
        .now()
        .with_context(|| format!("while reading the CPU clock of process {id}"))?;
    Ok(Duration::from(time))
}

/// Most memory that a process has ever had resident, in bytes.
pub(crate) fn most_resident(id: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))
        .with_context(|| format!("while reading the status of process {id}"))?;
    kibibytes(&status, "VmHWM:")
        .map(|value| value * 1024.0)
        .with_context(|| format!("process {id} has no VmHWM"))
}

/// A line of `/proc/PID/status` that counts kB, which are KiB.
fn kibibytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{cpu, kibibytes, most_resident};

    #[test]
    fn computing_costs_cpu_time_and_sleeping_does_not() {
        let own = std::process::id();
        let before = cpu(own).unwrap();
        let begin = std::time::Instant::now();
        let mut value = 1_u64;
        while begin.elapsed().as_millis() < 50 {
            value = std::hint::black_box(value.wrapping_mul(31));
        }
        // Other tests and other programs share the processor.
        assert!(cpu(own).unwrap() - before > std::time::Duration::from_millis(5));
        assert!(cpu(u32::MAX).is_err());
    }

    #[test]
    fn resident_memory_grows_with_what_is_touched() {
        let own = std::process::id();
        let before = most_resident(own).unwrap();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let grown = most_resident(own).unwrap() - before;
        assert!(
            grown > 32e6,
            "{grown} after touching {} bytes",
            touched.len()
        );
    }

    #[test]
    fn a_line_of_the_status_is_found_by_its_whole_name() {
        let status = "VmPeak:\t  999 kB\nVmHWM:\t     12 kB\n";
        assert_eq!(kibibytes(status, "VmHWM:"), Some(12.0));
        assert_eq!(kibibytes(status, "VmRSS:"), None);
    }
}
