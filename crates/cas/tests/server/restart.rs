// SPDX-License-Identifier: Apache-2.0
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::{Cas, identity, plain};

#[test]
fn sessions_and_identity_survive_restart_and_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let owner = identity();
    let cas = Cas::start(dir.path());
    let key = cas.key;
    let hash = cas.client(&owner).upload(&plain("s", "")).unwrap().hash;
    cas.terminate();
    let mut hash = hash;
    for round in 0..5 {
        let cas = Cas::start(dir.path());
        assert_eq!(cas.key, key);
        let client = cas.client(&owner);
        assert_eq!(client.read("s", None).unwrap().unwrap().hash, hash);
        let update = plain(
            "s",
            &format!("predecessor: {hash}\nsecrets: [{{name: r{round}, kind: ascii}}]\n"),
        );
        // What is acknowledged is durable.
        hash = client.upload(&update).unwrap().hash;
        cas.kill();
    }
    let cas = Cas::start(dir.path());
    assert_eq!(
        cas.client(&owner).read("s", None).unwrap().unwrap().hash,
        hash
    );
}

#[test]
fn files_are_private_and_open_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    for name in [
        "dev-sealing.key",
        "identity.sealed",
        "cas.redb",
        "audit.jsonl",
    ] {
        let mode = cas.data.join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let data = cas.data.clone();
    cas.terminate();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ensconce-cas"))
        .args([
            "serve",
            "--dev",
            "--api-port",
            "0",
            "--attested-port",
            "0",
            "--data",
        ])
        .arg(&data)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("chmod 0700"), "{said}");
}

#[test]
fn a_development_server_says_so_at_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let said = std::fs::read_to_string(&cas.log).unwrap();
    for expected in [
        "DEVELOPMENT CAS",
        "freshness: degraded",
        &cas.key.to_string(),
        &cas.key.to_hex(),
    ] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let output = Command::new(env!("CARGO_BIN_EXE_ensconce-cas"))
        .args([
            "serve",
            "--dev",
            "--api-port",
            "0",
            "--attested-port",
            "0",
            "--data",
        ])
        .arg(&cas.data)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("only one CAS may serve it"), "{said}");
}

#[test]
fn the_server_leaves_no_core_file() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", cas.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let values: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(values, ["0", "0"], "{core}");
}
