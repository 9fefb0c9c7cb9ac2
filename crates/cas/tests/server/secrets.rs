// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::path::Path;

use crate::support::{Cas, identity, plain};

fn files_with(dir: &Path, marker: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_with(&path, marker, found);
        } else if fs::read(&path)
            .expect("a file")
            .windows(marker.len())
            .any(|w| w == marker)
        {
            found.push(path.display().to_string());
        }
    }
}

#[test]
fn planted_secrets_reach_neither_files_nor_logs() {
    let marker = "PLANTED-SECRET-0b5f";
    let hex_marker = hex::encode(marker);
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let owner = identity();
    let client = cas.client(&owner);
    let mrenclave = "0".repeat(64);
    let document = plain(
        "s",
        &format!(
            "secrets:\n  - {{name: a, kind: ascii, value: {marker}}}\n  - {{name: b, kind: binary, value: {hex_marker}}}\n\
             images: [{{name: i, injection_files: [{{path: /a, content: {marker}}}]}}]\n\
             services: [{{name: s, command: [run, {marker}], environment: {{K: {marker}}}, image_name: i, attestation: {{mrenclave: {mrenclave}}}}}]\n"
        ),
    );
    let hash = client.upload(&document).unwrap().hash;
    assert!(
        client
            .read("s", None)
            .unwrap()
            .unwrap()
            .session
            .contains(marker)
    );
    // Refused documents hold secrets as well.
    let broken = document
        .replace("kind: ascii", "kind: asci")
        .replace("services:", "srevices:");
    let refused = client.upload(&broken).unwrap_err().to_string();
    assert!(
        !refused.contains(marker) && !refused.contains(&hex_marker),
        "{refused}"
    );
    let unreadable = document.replace("images: [", "images: [[[{");
    let refused = client.upload(&unreadable).unwrap_err().to_string();
    assert!(!refused.contains(marker), "{refused}");
    let stranger = cas.client(&identity());
    let update = plain(
        "s",
        &format!("predecessor: {hash}\nsecrets: [{{name: a, kind: ascii, value: {marker}}}]\n"),
    );
    assert!(
        !stranger
            .upload(&update)
            .unwrap_err()
            .to_string()
            .contains(marker)
    );
    let log = fs::read_to_string(&cas.log).unwrap();
    assert!(log.contains("TRACE"), "the log is not at its highest level");
    cas.terminate();
    for marker in [marker, &hex_marker] {
        let mut found = Vec::new();
        files_with(dir.path(), marker.as_bytes(), &mut found);
        assert!(found.is_empty(), "{marker} is in {found:?}");
    }
}

#[test]
fn generated_secrets_are_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let client = cas.client(&identity());
    let document = plain(
        "s",
        "secrets: [{name: a, kind: ascii, size: 40}, {name: b, kind: binary, size: 32}]\n",
    );
    client.upload(&document).unwrap();
    let text = client.read("s", None).unwrap().unwrap().session;
    let session = policy::parse(&text).unwrap().session;
    assert_eq!(session.secrets.len(), 2);
    assert!(
        session
            .secrets
            .values()
            .all(|secret| secret.value.is_none())
    );
    assert!(!text.contains("value:"));
}
