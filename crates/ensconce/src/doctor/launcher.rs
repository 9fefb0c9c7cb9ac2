// SPDX-License-Identifier: Apache-2.0
//! The parts that go into images, and what the launcher says that the kernel
//! lets it do.

use std::process::{Command, Stdio};

use serde::Deserialize;

use super::report::Check;
use crate::libexec::Libexec;

/// Parts without which nothing can be converted or run.
const PARTS: [&str; 3] = ["kernel.elf", "agent", "launch"];

/// What `launch --probe --` prints: null where all is well, else why not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Probe {
    syscall_dispatch: Option<String>,
    cpuid_faulting: Option<String>,
    elrange: Option<String>,
    missing_cpu: Vec<String>,
}

/// All checks of this file.
pub(super) fn checks() -> Vec<Check> {
    const NAME: &str = "parts of images";
    let parts = Libexec::find().and_then(|libexec| {
        for part in PARTS {
            libexec.path(part)?;
        }
        libexec.path("launch")
    });
    let launch = match parts {
        Ok(launch) => launch,
        Err(failure) => {
            return vec![Check::fail(
                NAME,
                failure.message(),
                "the checks of the processor need the launcher and were skipped",
            )];
        }
    };
    let place = launch.with_file_name("").display().to_string();
    let mut checks = vec![Check::ok(
        NAME,
        format!("kernel, agent, launcher in {place}"),
    )];
    match probe(Command::new(&launch)) {
        Ok(probe) => checks.extend(probed(&probe)),
        Err(problem) => checks.push(Check::fail(
            "launcher",
            problem,
            "it belongs to another version of this program? run 'make build'",
        )),
    }
    checks
}

fn probe(mut launch: Command) -> Result<Probe, String> {
    let output = launch
        .args(["--probe", "--"])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("'launch --probe' cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "'launch --probe' ended with {}: {}",
            output.status,
            super::printable(&String::from_utf8_lossy(&output.stderr))
        ));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("'launch --probe' printed something else: {error}"))
}

fn probed(probe: &Probe) -> Vec<Check> {
    let check = |name, problem: &Option<String>, next: &str, is_needed: bool| match problem {
        None => Check::ok(name, "available"),
        Some(problem) if is_needed => Check::fail(name, super::printable(problem), next),
        Some(problem) => Check::warn(name, super::printable(problem), next),
    };
    vec![
        check(
            "syscall dispatch",
            &probe.syscall_dispatch,
            "emulation needs prctl(PR_SET_SYSCALL_USER_DISPATCH): Linux 5.11 with \
             CONFIG_GENERIC_ENTRY, and a seccomp profile that allows it",
            true,
        ),
        check(
            "CPUID faulting",
            &probe.cpuid_faulting,
            "strict emulation needs arch_prctl(ARCH_SET_CPUID); fast emulation lets programs see \
             the host's processor",
            false,
        ),
        check(
            "enclave range",
            &probe.elrange,
            "see 'lowest address', 'address space' and 'overcommit'",
            true,
        ),
        if probe.missing_cpu.is_empty() {
            Check::ok("processor", "has what enclaves are shown")
        } else {
            Check::fail(
                "processor",
                super::printable(&format!("lacks {}", probe.missing_cpu.join(", "))),
                "enclaves need a processor of the Ice Lake-SP class or later, AMD's Zen 4 for \
                 emulation",
            )
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Outcome;

    fn probe_of(text: &str) -> Vec<Outcome> {
        let probe = serde_json::from_str(text).expect("a probe");
        probed(&probe).iter().map(|check| check.outcome).collect()
    }

    #[test]
    fn what_the_launcher_cannot_do_fails_and_cpuid_only_warns() {
        use Outcome::{Fail, Ok, Warn};
        let well =
            r#"{"syscall_dispatch":null,"cpuid_faulting":null,"elrange":null,"missing_cpu":[]}"#;
        assert_eq!(probe_of(well), [Ok, Ok, Ok, Ok]);
        let ill = r#"{"syscall_dispatch":"EINVAL","cpuid_faulting":"ENODEV","elrange":"ENOMEM","missing_cpu":["AVX2"]}"#;
        assert_eq!(probe_of(ill), [Fail, Warn, Fail, Fail]);
    }

    #[test]
    fn a_launcher_that_fails_or_says_something_else_is_named() {
        assert!(probe(Command::new("false")).is_err());
        let problem = probe(Command::new("echo")).expect_err("prints --probe");
        assert!(problem.contains("something else"), "{problem}");
    }
}
