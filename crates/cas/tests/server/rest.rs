// SPDX-License-Identifier: Apache-2.0
use std::process::Command;
use std::sync::{Arc, Barrier};

use cas::client::{Client, ClientError, EXIT_CAS, EXIT_SESSION, Identity, State};

use crate::support::{Cas, identity, key_hash, plain};

/// Name of the problem that a request was refused with.
fn problem<T>(result: Result<T, ClientError>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(ClientError::Refused { problem, .. }) => problem,
        Err(error) => panic!("not a refusal: {error:?}"),
    }
}

#[test]
fn identities_meet_operations_as_the_policy_says() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let [creator, reader, maker, stranger] = [identity(), identity(), identity(), identity()];
    let document = plain(
        "acme",
        &format!(
            "access_policy:\n  read: [CREATOR, {}]\n  create_sessions: [{}]\n",
            key_hash(&reader),
            key_hash(&maker)
        ),
    );
    let first = cas.client(&creator).upload(&document).unwrap();
    assert!(first.created && first.dev);
    assert_eq!(first.freshness, "degraded");
    let update = document.replace(
        "name: acme\n",
        &format!("name: acme\npredecessor: {}\n", first.hash),
    );
    // identity: read, update, create below, list
    for (who, expected) in [
        (
            Some(&reader),
            ["accepted", "access-denied", "access-denied", "accepted"],
        ),
        (
            Some(&maker),
            ["access-denied", "access-denied", "accepted", "accepted"],
        ),
        (
            Some(&stranger),
            [
                "access-denied",
                "access-denied",
                "access-denied",
                "access-denied",
            ],
        ),
        (
            None,
            [
                "access-denied",
                "client-certificate-needed",
                "client-certificate-needed",
                "access-denied",
            ],
        ),
        (
            Some(&creator),
            ["accepted", "accepted", "access-denied", "accepted"],
        ),
    ] {
        let client = who.map_or_else(|| cas.anonymous(), |pem| cas.client(pem));
        let below = plain("acme/ledger", "");
        let actual = [
            problem(client.read("acme", None)),
            problem(client.upload(&update)),
            problem(client.upload(&below)),
            problem(client.list(Some("acme"))),
        ];
        assert_eq!(actual, expected, "{:?}", who.map(|pem| key_hash(pem)));
    }
    assert_eq!(
        cas.client(&reader).list(Some("acme")).unwrap(),
        ["acme/ledger"]
    );
    // What was created below belongs to its own creator.
    assert_eq!(
        problem(cas.client(&creator).read("acme/ledger", None)),
        "access-denied"
    );
    assert!(
        cas.client(&maker)
            .read("acme/ledger", None)
            .unwrap()
            .is_some()
    );
    let denied: Vec<_> = cas
        .audit()
        .into_iter()
        .filter(|e| e["event"] == "session-denied")
        .collect();
    assert!(denied.iter().any(|e| {
        e["operation"] == "update"
            && e["decision"]
                .as_str()
                .unwrap()
                .contains("access_policy.update")
    }));
}

#[test]
fn a_lost_update_is_refused_and_exactly_one_of_two_wins() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let owner = identity();
    let client = cas.client(&owner);
    let first = client.upload(&plain("s", "")).unwrap();
    assert_eq!(problem(client.upload(&plain("s", ""))), "session-exists");
    let by = |hash: &str, patch: &str| {
        plain("s", &format!("predecessor: {hash}\n")).replace("0.3.12", patch)
    };
    let second = client.upload(&by(&first.hash, "0.3.11")).unwrap();
    assert!(!second.created);
    assert_eq!(
        problem(client.upload(&by(&first.hash, "0.3.10"))),
        "predecessor-mismatch"
    );
    assert_eq!(client.read("s", None).unwrap().unwrap().hash, second.hash);
    let barrier = Arc::new(Barrier::new(2));
    let racers: Vec<_> = ["0.3.9", "0.3.8"]
        .into_iter()
        .map(|patch| {
            let client = cas.client(&owner);
            let (document, barrier) = (by(&second.hash, patch), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                problem(client.upload(&document))
            })
        })
        .collect();
    let mut results: Vec<String> = racers.into_iter().map(|r| r.join().unwrap()).collect();
    results.sort();
    assert_eq!(results, ["accepted", "predecessor-mismatch"]);
    // Every version stays readable through the chain of predecessors.
    let mut hash = client.read("s", None).unwrap().unwrap().hash;
    let mut length = 1;
    loop {
        let text = client.read("s", Some(&hash)).unwrap().unwrap().session;
        let session = policy::parse(&text).unwrap().session;
        assert_eq!(hex::encode(session.hash()), hash);
        let Some(predecessor) = session.predecessor else {
            break;
        };
        hash = hex::encode(predecessor);
        length += 1;
    }
    assert_eq!((length, hash), (3, first.hash));
}

#[test]
fn the_hash_is_what_its_creator_computes_before() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let client = cas.client(&identity());
    let document = plain("s", "secrets: [{name: a, kind: ascii}]\n");
    let session = policy::parse(&document).unwrap().session;
    let expected = hex::encode(client.hash_as_creator(session).unwrap());
    assert_eq!(client.upload(&document).unwrap().hash, expected);
}

#[test]
fn creation_needs_its_namespace_and_no_predecessor() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let (owner, other) = (identity(), identity());
    let client = cas.client(&owner);
    assert_eq!(
        problem(client.upload(&plain("a/b", ""))),
        "no-such-namespace"
    );
    let with = plain("a", &format!("predecessor: {}\n", "0".repeat(64)));
    assert_eq!(problem(client.upload(&with)), "predecessor-mismatch");
    client.upload(&plain("a", "")).unwrap();
    assert_eq!(
        problem(cas.client(&other).upload(&plain("a/b", ""))),
        "access-denied"
    );
    assert!(client.upload(&plain("a/b", "")).unwrap().created);
    // Nobody uploads in the name of somebody else.
    let pem = Identity::from_pem(&owner).unwrap().certificate_pem();
    let creator: String = pem.lines().map(|line| format!("  {line}\n")).collect();
    let foreign = plain("c", &format!("creator: |\n{creator}"));
    assert_eq!(
        problem(cas.client(&other).upload(&foreign)),
        "foreign-creator"
    );
    assert!(client.upload(&foreign).unwrap().created);
}

#[test]
fn an_invalid_or_undeliverable_document_is_refused_with_its_findings() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let client = cas.client(&identity());
    let error = client
        .upload(&plain("s", "srevices: []\nsecrets: 5\n"))
        .unwrap_err();
    assert_eq!(error.exit_code(), EXIT_SESSION);
    let ClientError::Refused {
        status: 422,
        findings,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(findings.len(), 2);
    assert!(
        error.to_string().contains("did you mean 'services'"),
        "{error}"
    );
    let mrenclave = "0".repeat(64);
    for rest in [
        "security: {attestation: {mode: none}}\nservices: [{name: s, command: a}]\n".to_owned(),
        format!("services: [{{name: s, attestation: {{mrenclave: {mrenclave}}}}}]\n"),
        format!(
            "services: [{{name: s, command: a, image_name: i, attestation: {{mrenclave: {mrenclave}}}}}]\nimages: [{{name: i, injection_files: [/a]}}]\n"
        ),
        format!(
            "services: [{{name: s, command: a, fspf_path: /f, fspf_key: {mrenclave}, fspf_update_policy: no_rollback_protection, attestation: {{mrenclave: {mrenclave}}}}}]\n"
        ),
    ] {
        assert_eq!(
            problem(client.upload(&plain("s", &rest))),
            "not-supported",
            "{rest}"
        );
    }
    assert!(client.read("s", None).unwrap().is_none());
}

#[test]
fn create_or_update_fills_in_the_predecessor_only_when_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let owner = identity();
    let client = cas.client(&owner);
    let document = plain("s", "secrets: [{name: a, kind: ascii}]\n");
    assert!(client.create_or_update(&document, true).unwrap().created);
    assert!(!client.create_or_update(&document, true).unwrap().created);
    let refused = client.create_or_update(&document, false).unwrap_err();
    assert!(refused.is_problem("session-exists"));
    assert_eq!(refused.exit_code(), EXIT_SESSION);
    let stranger = cas
        .client(&identity())
        .create_or_update(&document, true)
        .unwrap_err();
    assert!(stranger.is_problem("access-denied"), "{stranger}");
    assert_eq!(stranger.exit_code(), EXIT_SESSION);
}

#[test]
fn another_cas_at_the_address_is_noticed() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cas = Cas::start(one.path());
    let other = Cas::start(two.path());
    let client = Client::new(cas.address.clone(), Some(other.key), None);
    let error = client.attest().unwrap_err();
    assert!(matches!(error, ClientError::WrongKey { .. }), "{error:?}");
    assert_eq!(error.exit_code(), EXIT_CAS);
    // Recorded on first use, then held to it.
    let path = one.path().join("client/config.json");
    let mut state = State::load_or_create(&path).unwrap();
    let seen = Client::new(cas.address.clone(), None, None)
        .attest()
        .unwrap();
    assert_eq!(
        (seen.key_hash, seen.dev, seen.freshness.as_str()),
        (cas.key, true, "degraded")
    );
    state.record("cas", &cas.address, &seen).unwrap();
    let mut state = State::load_or_create(&path).unwrap();
    assert_eq!(state.default_cas(), Some("cas"));
    assert_eq!(state.pin("cas"), Some(cas.key));
    let foreign = Client::new(other.address.clone(), None, None)
        .attest()
        .unwrap();
    assert!(state.record("cas", &cas.address, &foreign).is_err());
}

#[test]
fn an_unreachable_cas_has_its_exit_code() {
    let client = Client::new("127.0.0.1:1".parse().unwrap(), None, None);
    let error = client.attest().unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
    assert_eq!(error.exit_code(), EXIT_CAS);
}

#[test]
fn a_listing_shows_what_one_may_see() {
    let dir = tempfile::tempdir().unwrap();
    let cas = Cas::start(dir.path());
    let (one, two) = (identity(), identity());
    cas.client(&one).upload(&plain("mine", "")).unwrap();
    cas.client(&one).upload(&plain("mine/sub", "")).unwrap();
    cas.client(&two)
        .upload(&plain("open", "access_policy: {read: ANY}\n"))
        .unwrap();
    cas.client(&two).upload(&plain("minefield", "")).unwrap();
    assert_eq!(
        cas.client(&one).list(None).unwrap(),
        ["mine", "mine/sub", "open"]
    );
    assert_eq!(cas.anonymous().list(None).unwrap(), ["open"]);
    assert_eq!(cas.client(&one).list(Some("mine")).unwrap(), ["mine/sub"]);
    assert_eq!(
        problem(cas.client(&one).list(Some("nothing"))),
        "no-such-session"
    );
}

#[test]
fn serving_in_production_is_refused_in_so_many_words() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ensconce-cas"))
        .args(["serve", "--data"])
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("inside an enclave") && said.contains("serve --dev"),
        "{said}"
    );
    assert!(!dir.path().join("data").exists());
}
