// SPDX-License-Identifier: Apache-2.0
//! From the configuration to what the program is given.
//!
//! Arguments and variables of the host are ignored, except where the session
//! asks for them: an argument `@@N` is the host's N-th, a variable written
//! `\@\@NAME` has the host's value or is empty.

use anyhow::{Context as _, Result, bail, ensure};
use attest::channel::config::Config;
use enclave_abi::manifest::ProgramConfig;
use enclave_abi::start::StartBlock;

/// Prefix of an argument that the host gives.
const HOST_ARGUMENT: &str = "@@";
/// Prefix of the name of a variable that the host gives.
const HOST_VARIABLE: &str = r"\@\@";

/// Replaces host placeholders and checks what the kernel will demand.
///
/// # Errors
/// A missing or repeated host argument, a NUL byte, a relative directory. No
/// message holds a value.
pub fn program(config: &Config, host: &StartBlock) -> Result<ProgramConfig> {
    ensure!(
        !config.argv.is_empty(),
        "session gives the service no command"
    );
    ensure!(
        config.cwd.starts_with('/') && !config.cwd.contains('\0'),
        "session's working directory is not an absolute path"
    );
    let mut used = Vec::new();
    let mut argv = Vec::with_capacity(config.argv.len());
    for (index, argument) in config.argv.iter().enumerate() {
        let argument = argument.expose();
        let bytes = match argument.strip_prefix(HOST_ARGUMENT) {
            Some(number) => host_argument(number, host, &mut used)?,
            None => argument.as_bytes().to_vec(),
        };
        ensure!(!bytes.contains(&0), "argument {index} holds a NUL byte");
        argv.push(bytes);
    }
    let mut env = Vec::with_capacity(config.env.len());
    for (name, value) in &config.env {
        let (name, value) = match name.strip_prefix(HOST_VARIABLE) {
            Some(name) => (name, host_variable(name, host)),
            None => (name.as_str(), value.expose().as_bytes()),
        };
        ensure!(
            !name.is_empty() && !name.contains(['=', '\0']),
            "session names a variable that cannot exist"
        );
        ensure!(!value.contains(&0), "variable {name} holds a NUL byte");
        let mut entry = Vec::with_capacity(name.len() + 1 + value.len());
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'=');
        entry.extend_from_slice(value);
        env.push(entry);
    }
    Ok(ProgramConfig {
        argv,
        env,
        cwd: config.cwd.as_bytes().to_vec(),
    })
}

fn host_argument(number: &str, host: &StartBlock, used: &mut Vec<usize>) -> Result<Vec<u8>> {
    let index: usize = number
        .parse()
        .ok()
        .filter(|index| *index > 0 && !number.starts_with(['0', '+']))
        .context("session holds a host argument that is not written @@N with N from 1")?;
    if used.contains(&index) {
        bail!("session uses host argument @@{index} more than once");
    }
    used.push(index);
    host.argv.get(index).cloned().with_context(|| {
        format!("session asks for host argument @@{index}; give at least {index} arguments after the image's name")
    })
}

/// The host's value, or empty.
fn host_variable<'a>(name: &str, host: &'a StartBlock) -> &'a [u8] {
    host.env
        .iter()
        .find_map(|entry| {
            let at = entry.iter().position(|byte| *byte == b'=')?;
            let (found, value) = entry.split_at(at);
            (found == name.as_bytes()).then_some(value)
        })
        .and_then(|value| value.get(1..))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::channel::config::{Freshness, Head, LogLevel};
    use attest::channel::encoding::Fixed;

    fn config(argv: &[&str], env: &[(&str, &str)]) -> Config {
        Config {
            argv: argv.iter().map(|text| (*text).into()).collect(),
            env: env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect(),
            cwd: "/".to_owned(),
            root: None,
            volumes: Vec::new(),
            files: Vec::new(),
            log: LogLevel::Error,
            head: Head {
                epoch: 0,
                seq: 0,
                root: Fixed([0; 32]),
                freshness: Freshness::Degraded,
            },
            dev: true,
            cas_root_spki: Fixed([0; 32]),
        }
    }

    fn host() -> StartBlock {
        StartBlock {
            argv: ["program", "first", "second"]
                .map(|text| text.as_bytes().to_vec())
                .to_vec(),
            env: ["LABEL=blue=green", "PATH=/evil", "LD_PRELOAD=/evil.so"]
                .map(|text| text.as_bytes().to_vec())
                .to_vec(),
            ..StartBlock::default()
        }
    }

    fn texts(list: &[Vec<u8>]) -> Vec<String> {
        list.iter()
            .map(|item| String::from_utf8_lossy(item).into_owned())
            .collect()
    }

    #[test]
    fn nothing_of_the_host_reaches_the_program_unasked() {
        let program =
            program(&config(&["/bin/x", "a"], &[("PATH", "/bin")]), &host()).expect("a program");
        assert_eq!(texts(&program.argv), ["/bin/x", "a"]);
        assert_eq!(texts(&program.env), ["PATH=/bin"]);
    }

    #[test]
    fn placeholders_take_the_hosts_values() {
        let program = program(
            &config(
                &["/bin/x", "@@2", "--flag", "@@1"],
                &[(r"\@\@LABEL", ""), (r"\@\@ABSENT", ""), ("TZ", "UTC")],
            ),
            &host(),
        )
        .expect("a program");
        assert_eq!(
            texts(&program.argv),
            ["/bin/x", "second", "--flag", "first"]
        );
        assert_eq!(
            texts(&program.env),
            ["LABEL=blue=green", "ABSENT=", "TZ=UTC"]
        );
    }

    #[test]
    fn missing_repeated_and_malformed_host_arguments_are_fatal() {
        for argument in [
            "@@3",
            "@@0",
            "@@",
            "@@x",
            "@@01",
            "@@-1",
            "@@+1",
            "@@99999999999999999999",
        ] {
            assert!(
                program(&config(&["x", argument], &[]), &host()).is_err(),
                "{argument}"
            );
        }
        assert!(program(&config(&["x", "@@1", "@@1"], &[]), &host()).is_err());
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_without_naming_values() {
        let marker = "marker-secret\0x";
        for bad in [
            config(&[], &[]),
            config(&["x", marker], &[]),
            config(&["x"], &[("A", marker)]),
            config(&["x"], &[("A=B", "c")]),
            config(&["x"], &[("", "c")]),
            config(&["x"], &[(r"\@\@", "c")]),
            Config {
                cwd: "relative".to_owned(),
                ..config(&["x"], &[])
            },
        ] {
            let error = program(&bad, &host()).expect_err("refused");
            assert!(!format!("{error:?}").contains("marker-secret"), "{error:?}");
        }
    }
}
