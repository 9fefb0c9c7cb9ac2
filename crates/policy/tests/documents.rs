// SPDX-License-Identifier: Apache-2.0
//! Documents and what is said about them, compared with the golden files beside them.
//! `ENSCONCE_UPDATE_GOLDEN=1` rewrites the expectations; review the difference.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn documents(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder);
    let mut all: Vec<PathBuf> = fs::read_dir(root)
        .expect("the folder is committed")
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

fn expect(path: &Path, actual: &str) {
    if std::env::var_os("ENSCONCE_UPDATE_GOLDEN").is_some() {
        fs::write(path, actual).expect("the golden file is writable");
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(expected, actual, "{} differs", path.display());
}

#[test]
fn every_faulty_document_is_refused_with_all_its_errors() {
    for path in documents("errors") {
        let text = fs::read_to_string(&path).unwrap();
        let Err(refusal) = policy::parse(&text) else {
            panic!("{} was accepted", path.display());
        };
        expect(&path.with_extension("txt"), &refusal.to_string());
    }
}

#[test]
fn sessions_have_their_published_form_and_hash() {
    for path in documents("sessions") {
        let text = fs::read_to_string(&path).unwrap();
        let parsed = policy::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut out = String::new();
        for warning in &parsed.warnings {
            out.push_str(&format!("{warning}\n"));
        }
        out.push_str(&format!(
            "hash {}\n{}",
            hex::encode(parsed.session.hash()),
            parsed.session.to_yaml().as_str()
        ));
        expect(&path.with_extension("txt"), &out);
    }
}

#[test]
fn no_error_shows_a_secret() {
    let marker = "PLANTED";
    for text in [
        // Structure known: values of secret keys are masked.
        format!(
            "version: \"0.3\"\nname: x\nsecrets: [{{name: s, kind: binary, value: \"{marker}\"}}]\n"
        ),
        format!(
            "version: \"0.3\"\nname: x\nsecrets: [{{name: s, kind: ascii, valeu: a, value: {marker}, size: 3}}]\n"
        ),
        format!(
            "version: \"0.3\"\nname: x\nservices: [{{name: s, fspf_key: {marker}, environment: {{A: {marker}, A: b}}, command: \"'{marker}\"}}]\n"
        ),
        format!(
            "version: \"0.3\"\nname: x\nimages: [{{name: i, injection_files: [{{path: a, content: \"{marker} $$SCONE::\"}}]}}]\n"
        ),
        // Structure unknown: everything after a key is masked.
        format!("version: \"0.3\"\nname: x\nsecrets:\n  - {{value: \"{marker}, kind: [}}\n"),
        format!("secrets: {{value: {marker}\n\tx: y"),
        format!("secrets: {{value: {marker}}}}}"),
        format!("value: *{marker}"),
        format!("value: &{marker} x"),
        format!("value: !{marker} x"),
    ] {
        let refusal = policy::parse(&text).unwrap_err().to_string();
        assert!(!refusal.contains(marker), "{refusal}");
    }
}

#[test]
fn variables_are_replaced_in_values_only_and_missing_ones_refuse() {
    let text = "version: \"0.3\"\nname: $NS/x\nservices:\n  - name: s\n    command: [\"run\", \"$ARG\"]\n    attestation: { mrenclave: [ \"${HASH}\" ] }\n";
    let mut variables = BTreeMap::from([
        ("NS".to_owned(), "acme".to_owned()),
        ("HASH".to_owned(), "ab".repeat(32)),
    ]);
    let refusal = policy::parse_template(text, &variables).unwrap_err();
    let errors = refusal
        .findings
        .iter()
        .filter(|f| f.severity == policy::Severity::Error);
    assert_eq!(errors.count(), 1);
    assert_eq!(
        (
            refusal.findings[0].span.line,
            refusal.findings[0].span.column
        ),
        (5, 22)
    );
    // A value cannot add structure.
    variables.insert("ARG".to_owned(), "x\", \"y\nz: [".to_owned());
    let session = policy::parse_template(text, &variables).unwrap().session;
    assert_eq!(session.name.as_str(), "acme/x");
    let service = session.services.values().next().unwrap();
    assert_eq!(service.command.as_ref().unwrap().len(), 2);
}

#[test]
fn documents_beyond_the_limits_are_refused() {
    let long = format!("name: {}", "x".repeat(policy::MAX_DOCUMENT));
    let deep = format!("name: {}", "[".repeat(200));
    let deep_closed = format!("name: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let many = format!("name: [{}]", "a,".repeat(policy::MAX_NODES + 1));
    let bomb = "a: &a [x,x]\nb: [*a,*a]\n";
    for text in [
        long.as_str(),
        &deep,
        &deep_closed,
        &many,
        bomb,
        "",
        "--- a\n--- b",
        "%YAML 1.1\n---\na: b",
    ] {
        assert!(policy::parse(text).is_err());
    }
}
