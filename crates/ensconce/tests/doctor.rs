// SPDX-License-Identifier: Apache-2.0
//! `ensconce doctor` on whatever machine this is.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn ensconce(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    command
}

fn doctor(arguments: &[&str]) -> Output {
    ensconce(Path::new(env!("CARGO_BIN_EXE_ensconce")))
        .env("ENSCONCE_LIBEXEC", "/nonexistent")
        .arg("doctor")
        .args(arguments)
        .output()
        .expect("ensconce starts")
}

#[test]
fn table_and_report_hold_the_same_checks() {
    let table = doctor(&[]);
    let report = doctor(&["--report", "json"]);
    let json: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let table = String::from_utf8(table.stdout).expect("UTF-8");
    let checks = json["checks"].as_array().expect("checks");
    assert!(checks.len() >= 8, "{json}");
    for check in checks {
        let line = format!("{:<4}  ", check["outcome"].as_str().expect("outcome"));
        let name = check["name"].as_str().expect("name");
        assert!(
            table
                .lines()
                .any(|text| text.starts_with(&line) && text.contains(name)),
            "{name} is not in\n{table}"
        );
    }
    let outcome = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        check.expect("check")["outcome"].clone()
    };
    // What this test took away.
    assert_eq!(outcome("parts of images"), "fail");
    assert_eq!(outcome("docker"), "warn");
    assert_eq!(outcome("default CAS"), "warn");
    assert_eq!(report.status.code(), Some(1));
}

#[test]
fn every_problem_has_a_next_step() {
    let report = doctor(&["--report=json"]);
    let json: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    for check in json["checks"].as_array().expect("checks") {
        let has_step = check["next"].as_str().is_some_and(|next| !next.is_empty());
        assert_eq!(check["outcome"] != "ok", has_step, "{check}");
    }
}

#[test]
fn the_flag_alone_is_printed_or_its_absence_explained() {
    let dir = tempfile::tempdir().expect("directory");
    let old_name = dir.path().join("determine_sgx_device");
    symlink(env!("CARGO_BIN_EXE_ensconce"), &old_name).expect("link");
    let by_name = ensconce(&old_name).output().expect("starts");
    let by_option = doctor(&["--sgx-device"]);
    assert_eq!(by_name.status.code(), by_option.status.code());
    assert_eq!(by_name.stdout, by_option.stdout);

    let flag = String::from_utf8(by_option.stdout).expect("UTF-8");
    let has_device = Path::new("/dev/sgx_enclave").exists();
    if has_device {
        assert_eq!(flag, "--device=/dev/sgx_enclave\n");
    } else if by_option.status.success() {
        assert_eq!(flag, "-v /run/ensconce:/run/ensconce\n");
    } else {
        assert_eq!(by_option.status.code(), Some(1));
        assert_eq!(flag, "");
        let error = String::from_utf8(by_option.stderr).expect("UTF-8");
        for named in ["/dev/sgx_enclave", "/run/ensconce/las.sock", "dev up"] {
            assert!(error.contains(named), "{error}");
        }
    }
}

#[test]
fn flag_and_report_exclude_each_other() {
    assert_eq!(
        doctor(&["--sgx-device", "--report=json"]).status.code(),
        Some(2)
    );
}

#[test]
fn the_built_launcher_answers_for_processor_and_kernel() {
    let Some(dist) = std::env::var_os("ENSCONCE_DIST") else {
        let problem = "ENSCONCE_DIST is not set; `make test` sets it";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{problem}");
        eprintln!("skipped: {problem}");
        return;
    };
    let report = ensconce(&Path::new(&dist).join("bin/ensconce"))
        .args(["doctor", "--report=json"])
        .output()
        .expect("ensconce starts");
    let json: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let outcome = |name: &str| {
        let checks = json["checks"].as_array().expect("checks");
        let check = checks.iter().find(|check| check["name"] == name);
        check.map_or(Value::Null, |check| check["outcome"].clone())
    };
    assert_eq!(outcome("parts of images"), "ok", "{json}");
    // The other tests run enclaves on this machine, so it must be able to.
    for needed in ["syscall dispatch", "enclave range", "processor"] {
        assert_eq!(outcome(needed), "ok", "{needed}: {json}");
    }
    assert_ne!(outcome("CPUID faulting"), Value::Null, "{json}");
}
