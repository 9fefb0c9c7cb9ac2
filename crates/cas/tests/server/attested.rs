// SPDX-License-Identifier: Apache-2.0
use attest::channel::config::{Freshness, LogLevel};
use attest::channel::frame::{Exit, RefusalCode};
use sgx::attributes::{Flags, MiscSelect};

use crate::machine::{
    MRENCLAVE, MRSIGNER, Machine, attest, attest_with, code, enclave, last_reasons, session,
};
use crate::support::identity;

#[test]
fn an_accepted_service_receives_everything_with_placeholders_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(dir.path());
    let cas = machine.cas(dir.path());
    let client = cas.client(&identity());
    let document = format!(
        r#"version: "0.3.12"
name: acme
security: {{attestation: {{tolerate: ["{}"]}}}}
services:
  - name: api
    command: [run, "--pw=$$SCONE::pw$$", "@@1"]
    environment: {{ K: "$$SCONE::key:hex$$", \@\@LABEL: "" }}
    pwd: /srv
    image_name: image
    fspf_path: /fspf/fs.fspf
    fspf_key: $$SCONE::key$$
    fspf_tag: 00112233445566778899aabbccddeeff
    attestation:
      - signer: {{mrsigner: {}, isvprodid: 7, isvsvn_min: 4}}
secrets:
  - {{name: pw, kind: ascii, size: 24}}
  - {{name: key, kind: binary, size: 32}}
  - {{name: note, kind: ascii, value: 'say "hi"'}}
images:
  - name: image
    injection_files:
      - {{path: /etc/key, content: $$SCONE::key$$, permission: 0o400}}
      - {{path: /etc/note, content: '{{"note": "$$SCONE::note|escape(json)$$"}}'}}
"#,
        machine.tolerance(),
        hex::encode(MRSIGNER),
    );
    let first = client.upload(&document).unwrap();
    let own = enclave(&cas.key, "acme", "api");
    let (config, _session) = attest(&cas, &mut machine, "acme/api", &own).unwrap();
    let argv: Vec<&str> = config.argv.iter().map(|a| a.expose()).collect();
    let password = argv[1].strip_prefix("--pw=").unwrap();
    assert_eq!((argv[0], password.len(), argv[2]), ("run", 24, "@@1"));
    let root = config.root.as_ref().unwrap();
    let env: Vec<(&str, &str)> = config
        .env
        .iter()
        .map(|(n, v)| (n.as_str(), v.expose()))
        .collect();
    assert_eq!(
        env,
        [
            ("K", hex::encode(root.key.expose()).as_str()),
            (r"\@\@LABEL", "")
        ]
    );
    assert_eq!(
        (config.cwd.as_str(), root.fspf_path.as_str()),
        ("/srv", "/fspf/fs.fspf")
    );
    assert_eq!(hex::encode(root.tag.0), "00112233445566778899aabbccddeeff");
    let files: Vec<(&str, u32, &[u8])> = config
        .files
        .iter()
        .map(|f| (f.path.as_str(), f.mode, f.content.expose()))
        .collect();
    let note: &[u8] = br#"{"note": "say \"hi\""}"#;
    assert_eq!(
        files,
        [
            ("/etc/key", 0o400, &root.key.expose()[..]),
            ("/etc/note", 0o700, note)
        ]
    );
    assert!(config.dev && config.head.freshness == Freshness::Degraded);
    assert_eq!((config.log, config.head.seq > 0), (LogLevel::Error, true));
    assert_eq!(&config.cas_root_spki.0, cas.key.as_bytes());
    // Every instance receives the same values, also after an update that keeps the secrets.
    let update = document.replace(
        "name: acme",
        &format!("name: acme\npredecessor: {}", first.hash),
    );
    client
        .upload(&update.replace("pwd: /srv", "pwd: /app"))
        .unwrap();
    let (again, _) = attest(&cas, &mut machine, "acme/api", &own).unwrap();
    assert_eq!(
        (again.argv, again.root),
        (config.argv.clone(), config.root.clone())
    );
    assert_eq!(again.cwd, "/app");
    let audit = cas.audit();
    let accepted = audit
        .iter()
        .find(|e| e["event"] == "service-attested")
        .unwrap();
    assert_eq!(accepted["verdict"]["mrenclave"], hex::encode(MRENCLAVE));
    assert!(
        accepted["verdict"]["tolerated"][0]
            .as_str()
            .unwrap()
            .contains("emulated")
    );
    // Nothing that was delivered is in the log or the audit log.
    let log = std::fs::read_to_string(&cas.log).unwrap();
    let audit = std::fs::read_to_string(cas.data.join("audit.jsonl")).unwrap();
    for secret in [
        password.to_owned(),
        hex::encode(root.key.expose()),
        "say ".to_owned(),
    ] {
        assert!(!log.contains(&secret) && !audit.contains(&secret));
    }
}

#[test]
fn a_stranger_who_names_the_same_enclave_gets_nothing_of_the_victim() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(dir.path());
    let cas = machine.cas(dir.path());
    let tolerance = format!("\"{}\"", machine.tolerance());
    let with = |value: &str| {
        format!(
            "    environment: {{A: \"$$SCONE::a$$\"}}\nsecrets: [{{name: a, kind: ascii, value: {value}}}]\n"
        )
    };
    let victim = session("victim", &[&tolerance], &with("treasure"));
    let attacker = session("attacker", &[&tolerance], &with("bait"));
    cas.client(&identity()).upload(&victim).unwrap();
    cas.client(&identity()).upload(&attacker).unwrap();
    // The attacker starts the victim's program under his own session: CONFIGID says so.
    let started = enclave(&cas.key, "attacker", "api");
    let refused = attest(&cas, &mut machine, "victim/api", &started);
    assert_eq!(code(refused), RefusalCode::AttestationRefused);
    assert!(
        last_reasons(&cas).contains("CONFIGID"),
        "{}",
        last_reasons(&cas)
    );
    let (own, _) = attest(&cas, &mut machine, "attacker/api", &started).unwrap();
    assert_eq!(own.env[0].1.expose(), "bait");
    let genuine = enclave(&cas.key, "victim", "api");
    let (own, _) = attest(&cas, &mut machine, "victim/api", &genuine).unwrap();
    assert_eq!(own.env[0].1.expose(), "treasure");
    // Neither does an enclave that was started for another CAS, another service, or with a token.
    let other_cas = policy::KeyHash::from_bytes([5; 32]);
    let mut token = enclave(&cas.key, "victim", "api");
    token.config_id[63] = 1;
    for wrong in [
        enclave(&other_cas, "victim", "api"),
        enclave(&cas.key, "victim", "ap"),
        token,
    ] {
        let refused = attest(&cas, &mut machine, "victim/api", &wrong);
        assert_eq!(code(refused), RefusalCode::AttestationRefused);
    }
}

#[test]
fn evidence_is_worth_nothing_on_another_connection() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(dir.path());
    let cas = machine.cas(dir.path());
    let tolerance = format!("\"{}\"", machine.tolerance());
    cas.client(&identity())
        .upload(&session("s", &[&tolerance], ""))
        .unwrap();
    let own = enclave(&cas.key, "s", "api");
    let mut stolen = None;
    attest_with(&cas, "s/api", |request| {
        let evidence = machine.evidence(&own, &request.report_data);
        stolen = Some(evidence.clone());
        evidence
    })
    .unwrap();
    let refused = attest_with(&cas, "s/api", |_| stolen.unwrap());
    assert_eq!(code(refused), RefusalCode::AttestationRefused);
    assert!(last_reasons(&cas).contains("does not cover this connection"));
    // The program as a signing oracle: it can have any bytes quoted, but only in its own form.
    let refused = attest_with(&cas, "s/api", |request| {
        let mut program_form = request.report_data;
        program_form[32..].fill(0);
        machine.evidence(&own, &program_form)
    });
    assert_eq!(code(refused), RefusalCode::AttestationRefused);
    // Each bit counts.
    for bit in [0, 255, 256, 511] {
        let refused = attest_with(&cas, "s/api", |request| {
            let mut data = request.report_data;
            data[bit / 8] ^= 1 << (bit % 8);
            machine.evidence(&own, &data)
        });
        assert_eq!(code(refused), RefusalCode::AttestationRefused);
    }
}

#[test]
fn attributes_are_compared_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(dir.path());
    let cas = machine.cas(dir.path());
    let client = cas.client(&identity());
    let tolerance = format!("\"{}\"", machine.tolerance());
    client
        .upload(&session("strict", &[&tolerance], ""))
        .unwrap();
    client
        .upload(&session("debug", &[&tolerance, "debug-mode"], ""))
        .unwrap();
    for (what, flags, misc, xfrm, strict, debug) in [
        ("as it must be", Flags::empty(), 1, 7, true, true),
        ("AVX-512", Flags::empty(), 1, 0xe7, true, true),
        ("debug", Flags::DEBUG, 1, 7, false, true),
        ("provisioning key", Flags::PROVISIONKEY, 1, 7, false, false),
        ("launch key", Flags::EINITTOKEN_KEY, 1, 7, false, false),
        ("AEX-Notify", Flags::AEX_NOTIFY, 1, 7, false, false),
        ("no EXINFO", Flags::empty(), 0, 7, false, false),
        ("more MISCSELECT", Flags::empty(), 3, 7, false, false),
        ("no AVX", Flags::empty(), 1, 3, false, false),
        ("AMX", Flags::empty(), 1, 0x600e7, false, false),
    ] {
        for (name, accepted) in [("strict", strict), ("debug", debug)] {
            let mut own = enclave(&cas.key, name, "api");
            own.attributes.flags |= flags;
            own.attributes.xfrm = xfrm;
            own.miscselect = MiscSelect::from_bits_retain(misc);
            let result = attest(&cas, &mut machine, &format!("{name}/api"), &own);
            assert_eq!(result.is_ok(), accepted, "{what} under {name}: {result:?}");
        }
    }
    let mut without_kss = enclave(&cas.key, "debug", "api");
    without_kss.attributes.flags.remove(Flags::KSS);
    let refused = attest(&cas, &mut machine, "debug/api", &without_kss);
    assert_eq!(code(refused), RefusalCode::AttestationRefused);
    let mut debug = enclave(&cas.key, "strict", "api");
    debug.attributes.flags |= Flags::DEBUG;
    let refused = attest(&cas, &mut machine, "strict/api", &debug);
    assert_eq!(code(refused), RefusalCode::AttestationRefused);
    let reasons = last_reasons(&cas);
    assert!(
        reasons.contains("tolerate: [ \"debug-mode\" ]"),
        "{reasons}"
    );
}

#[test]
fn an_emulated_platform_counts_only_if_installed_and_named() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut machine = Machine::new(one.path());
    let mut other = Machine::new(two.path());
    let cas = machine.cas(one.path());
    let client = cas.client(&identity());
    let own = format!("\"{}\"", machine.tolerance());
    let foreign = format!("\"{}\"", other.tolerance());
    client
        .upload(&session("unnamed", &["debug-mode"], ""))
        .unwrap();
    client
        .upload(&session("named", &[&own, &foreign], ""))
        .unwrap();
    client
        .upload(&session("elsewhere", &[&foreign], ""))
        .unwrap();
    for name in ["unnamed", "elsewhere"] {
        let enclave = enclave(&cas.key, name, "api");
        let refused = attest(&cas, &mut machine, &format!("{name}/api"), &enclave);
        assert_eq!(code(refused), RefusalCode::AttestationRefused);
        let line = format!("tolerate: [ {own} ]");
        assert!(last_reasons(&cas).contains(&line), "{}", last_reasons(&cas));
    }
    let named = enclave(&cas.key, "named", "api");
    attest(&cas, &mut machine, "named/api", &named).unwrap();
    // Named but not installed.
    let refused = attest(&cas, &mut other, "named/api", &named);
    assert_eq!(code(refused), RefusalCode::AttestationRefused);
    assert!(
        last_reasons(&cas).contains("unknown root"),
        "{}",
        last_reasons(&cas)
    );
}

#[test]
fn the_owner_reads_actual_and_expected_values_the_refused_only_a_code() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(dir.path());
    let cas = machine.cas(dir.path());
    let tolerance = format!("\"{}\"", machine.tolerance());
    cas.client(&identity())
        .upload(&session("s", &[&tolerance], ""))
        .unwrap();
    let mut wrong = enclave(&cas.key, "s", "api");
    wrong.mrenclave = [0x33; 32];
    let error = attest(&cas, &mut machine, "s/api", &wrong).unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(!told.contains(&hex::encode(MRENCLAVE)), "{told}");
    let reasons = last_reasons(&cas);
    assert!(
        reasons.contains(&hex::encode(MRENCLAVE)) && reasons.contains(&"33".repeat(32)),
        "{reasons}"
    );
    let audit = cas.audit();
    let refused = audit
        .iter()
        .rev()
        .find(|e| e["event"] == "service-refused")
        .unwrap();
    assert_eq!(refused["code"], "attestation-refused");
    assert_eq!(refused["service"], "s/api");
}

#[test]
fn a_running_service_is_fenced_when_its_session_no_longer_accepts_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(dir.path());
    let cas = machine.cas(dir.path());
    let client = cas.client(&identity());
    let tolerance = format!("\"{}\"", machine.tolerance());
    let document = session("s", &[&tolerance], "");
    let hash = client.upload(&document).unwrap().hash;
    let own = enclave(&cas.key, "s", "api");
    let (_, mut running) = attest(&cas, &mut machine, "s/api", &own).unwrap();
    let (_, ending) = attest(&cas, &mut machine, "s/api", &own).unwrap();
    assert!(running.renew().unwrap().lease_s > 0);
    let exit = Exit {
        code: 3,
        signal: Some(9),
    };
    ending.send_exit(exit).unwrap();
    let revoked = document
        .replace(&hex::encode(MRENCLAVE), &"44".repeat(32))
        .replace("name: s\n", &format!("name: s\npredecessor: {hash}\n"));
    client.upload(&revoked).unwrap();
    assert_eq!(code(running.renew()), RefusalCode::AttestationRefused);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !cas
        .audit()
        .iter()
        .any(|e| e["event"] == "service-exited" && e["code"] == 3 && e["signal"] == 9)
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the exit is not in the audit log"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
