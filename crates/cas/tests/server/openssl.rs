// SPDX-License-Identifier: Apache-2.0
//! Identities and requests made with common tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use cas::client::{Client, Identity, State};

use crate::support::{Cas, plain};

fn openssl(dir: &Path, algorithm: &[&str]) -> PathBuf {
    let (key, certificate) = (dir.join("key.pem"), dir.join("crt.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-subj",
            "/CN=tester",
            "-days",
            "3",
            "-newkey",
        ])
        .args(algorithm)
        .args([Path::new("-keyout"), &key, Path::new("-out"), &certificate])
        .output()
        .expect("openssl is installed");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let identity = dir.join("identity.pem");
    let both = std::fs::read_to_string(key).expect("key")
        + &std::fs::read_to_string(certificate).expect("certificate");
    std::fs::write(&identity, both).expect("identity");
    identity
}

#[test]
fn identities_made_by_openssl_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    for (name, algorithm) in [
        ("p256", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"][..]),
        ("p384", &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        ("rsa", &["rsa:2048"]),
        ("ed25519", &["ed25519"]),
    ] {
        let path = openssl(dir.path(), algorithm);
        let identity = Identity::from_file(&path).unwrap();
        let client = Client::new(cas.address.clone(), Some(cas.key), Some(identity));
        assert!(client.upload(&plain(name, "")).unwrap().created);
        assert!(client.read(name, None).unwrap().is_some());
    }
}

#[test]
fn a_second_machine_with_the_configuration_file_is_the_same_user() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let first = dir.path().join("one/.cas/config.json");
    let identity = State::load_or_create(&first).unwrap().into_identity();
    let client = Client::new(cas.address.clone(), Some(cas.key), Some(identity));
    let hash = client.upload(&plain("s", "")).unwrap().hash;
    // Copied as a file, and extracted as PEM from the documented member.
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&first).unwrap()).unwrap();
    let pem = dir.path().join("two.pem");
    std::fs::write(&pem, json["identity"].as_str().unwrap()).unwrap();
    for file in [&first, &pem] {
        let identity = Identity::from_file(file).unwrap();
        let client = Client::new(cas.address.clone(), Some(cas.key), Some(identity));
        assert_eq!(client.read("s", None).unwrap().unwrap().hash, hash);
    }
    let identity = Identity::from_file(&pem).unwrap();
    let client = Client::new(cas.address.clone(), Some(cas.key), Some(identity));
    assert!(
        !client
            .create_or_update(&plain("s", ""), true)
            .unwrap()
            .created
    );
}

#[test]
fn every_answer_over_plain_https_says_what_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let seen = cas.anonymous().attest().unwrap();
    let chain = dir.path().join("chain.pem");
    std::fs::write(&chain, &seen.chain).unwrap();
    for path in [
        "v1/version",
        "v1/attest",
        "v1/sessions/none",
        "nothing",
        "v1/version?x=1",
        "v1/sessions?hash=1",
    ] {
        let url = format!("https://localhost:{}/{path}", cas.address.rest_port);
        let output = Command::new("curl")
            .args(["-sSi", "--max-time", "10", "--cacert"])
            .arg(&chain)
            .arg(url)
            .output()
            .expect("curl is installed");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("ensconce-cas-mode: dev"), "{head}");
        assert!(head.contains("ensconce-freshness: degraded"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["dev"], true);
        assert_eq!(body["freshness"], "degraded");
        if head.starts_with("HTTP/1.1 4") {
            assert!(head.contains("application/problem+json"), "{head}");
            assert_eq!(body["status"].to_string(), head[9..12]);
            assert!(
                body["type"]
                    .as_str()
                    .unwrap()
                    .starts_with("urn:ensconce:problem:")
            );
        }
    }
}

#[test]
fn requests_beyond_the_limits_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let chain = dir.path().join("chain.pem");
    std::fs::write(&chain, cas.anonymous().attest().unwrap().chain).unwrap();
    let long = dir.path().join("long.yaml");
    std::fs::write(&long, vec![b'#'; 3 << 20]).unwrap();
    let (body, header) = (
        format!("@{}", long.display()),
        format!("x: {}", "y".repeat(64 << 10)),
    );
    for (arguments, statuses) in [
        (["--data-binary", body.as_str()], &["413"][..]),
        // The answer is lost where the connection is reset with unread bytes in it.
        (["-H", header.as_str()], &["431", "000"]),
        (["-X", "DELETE"], &["405"]),
    ] {
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(["--max-time", "10", "--cacert"])
            .arg(&chain)
            .args(arguments)
            .arg(format!(
                "https://localhost:{}/v1/sessions",
                cas.address.rest_port
            ))
            .output()
            .expect("curl is installed");
        let status = String::from_utf8_lossy(&output.stdout);
        assert!(statuses.contains(&&*status), "{}: {status}", arguments[0]);
    }
    assert!(cas.anonymous().attest().is_ok());
}
