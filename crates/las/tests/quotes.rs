// SPDX-License-Identifier: Apache-2.0
//! The emulated platform end to end: its quotes verify under its own anchor and
//! under no other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use attest::anchor::{Anchor, Platform as Kind};
use attest::collateral::Collateral;
use attest::dcap::{Part, TcbStatus, VerifyError, verify};
use attest::time::UnixTime;
use attest::verdict::{Tolerances, appraise};
use enclave_abi::las::{Answer, Base64, Request, SecsIdentity};
use las::platform::{Platform, PlatformError, PlatformInfo};
use las::service::{Access, Service};
use sgx::key::{KeyPolicy, KeyRequest, name};
use sgx::report::Report;

const NOW: UnixTime = UnixTime(1_790_000_000);
const DAY: u64 = 86_400;

fn secs(flags: u64) -> SecsIdentity {
    let mut attributes = flags.to_le_bytes().to_vec();
    attributes.extend_from_slice(&0xe7_u64.to_le_bytes());
    SecsIdentity {
        attributes: Base64(attributes),
        miscselect: 1,
        mrenclave: Base64(vec![1; 32]),
        mrsigner: Base64(vec![2; 32]),
        config_id: Base64(vec![3; 64]),
        isv_prod_id: 4,
        isv_svn: 5,
        config_svn: 6,
        isv_ext_prod_id: Base64(vec![7; 16]),
        isv_family_id: Base64(vec![8; 16]),
    }
}

/// Flags of an enclave of this project: INIT, MODE64BIT, KSS.
const PRODUCTION: u64 = 0x85;

fn target_info(service: &Service) -> Base64 {
    match service.answer(&Request::Info {}, Access::Quotes, NOW) {
        Answer::Info { qe_target_info, .. } => qe_target_info,
        other => panic!("{other:?}"),
    }
}

fn report(service: &Service, flags: u64) -> Vec<u8> {
    let request = Request::Ereport {
        targetinfo: target_info(service),
        reportdata: Base64(vec![9; 64]),
        secs: secs(flags),
    };
    match service.answer(&request, Access::Cpu, NOW) {
        Answer::Ereport { report } => report.0,
        other => panic!("{other:?}"),
    }
}

fn quote(service: &Service, report: Vec<u8>) -> Answer {
    let request = Request::Quote {
        report: Base64(report),
    };
    service.answer(&request, Access::Quotes, NOW)
}

fn quote_bytes(service: &Service, flags: u64) -> Vec<u8> {
    match quote(service, report(service, flags)) {
        Answer::Quote { quote } => quote.0,
        other => panic!("{other:?}"),
    }
}

fn collateral(service: &Service, now: UnixTime) -> Collateral {
    let request = Request::Collateral {
        fmspc: "454d55534758".to_owned(),
        ca: "platform".to_owned(),
    };
    match service.answer(&request, Access::Quotes, now) {
        Answer::Collateral { bundle } => {
            Collateral::from_json(bundle.as_bytes()).expect("a bundle")
        }
        other => panic!("{other:?}"),
    }
}

fn fresh(dir: &Path) -> (Anchor, Service) {
    let platform = Platform::init(&dir.join("platform"), NOW).expect("a new platform");
    let anchor = platform.anchor().expect("its anchor");
    (anchor, Service::new(platform, NOW).expect("a service"))
}

#[test]
fn quotes_verify_under_the_platforms_anchor_and_no_other() {
    let dir = tempfile::tempdir().expect("directory");
    let (anchor, service) = fresh(dir.path());
    let quote = quote_bytes(&service, PRODUCTION);
    let collateral = collateral(&service, NOW);
    let evidence =
        verify(&quote, &collateral, std::slice::from_ref(&anchor), NOW).expect("verified");
    assert_eq!(evidence.platform, anchor.platform());
    assert_eq!(evidence.status, TcbStatus::UpToDate);
    assert_eq!(evidence.report.report_data(), [9; 64]);
    assert_eq!(evidence.report.mrenclave(), [1; 32]);
    assert_eq!(hex::encode(evidence.qe_id), service.platform_id());

    for anchors in [vec![], vec![Anchor::intel()]] {
        assert!(matches!(
            verify(&quote, &collateral, &anchors, NOW),
            Err(VerifyError::UnknownRoot { .. })
        ));
    }
    let elsewhere = tempfile::tempdir().expect("directory");
    let (stranger, _) = fresh(elsewhere.path());
    assert!(matches!(
        verify(&quote, &collateral, &[stranger], NOW),
        Err(VerifyError::UnknownRoot { .. })
    ));
}

#[test]
fn an_emulated_platform_counts_only_if_its_anchor_is_named() {
    let dir = tempfile::tempdir().expect("directory");
    let (anchor, service) = fresh(dir.path());
    let collateral = collateral(&service, NOW);
    let evidence = verify(
        &quote_bytes(&service, PRODUCTION),
        &collateral,
        std::slice::from_ref(&anchor),
        NOW,
    )
    .expect("verified");
    let line = format!("emulated-platform:{}", service.anchor());
    assert_eq!(anchor.platform().to_string(), line);

    let nothing = appraise(&evidence, &Tolerances::default());
    assert_eq!(nothing.remedy(), Some(vec![format!("tolerate: [{line}]")]));
    // debug-mode never implies emulated-platform.
    let all_others = [
        "debug-mode",
        "hyperthreading",
        "insecure-igpu",
        "aepic-leak",
        "software-hardening-needed",
        "insecure-configuration",
        "outdated-tcb",
    ];
    let lenient = Tolerances::from_entries(all_others, ["*"]).expect("known entries");
    assert!(!appraise(&evidence, &lenient).is_accepted());
    let other = format!("emulated-platform:{}", "00".repeat(32));
    let wrong = Tolerances::from_entries([other.as_str()], []).expect("an entry");
    assert!(!appraise(&evidence, &wrong).is_accepted());
    let named = Tolerances::from_entries([line.as_str()], []).expect("an entry");
    assert!(appraise(&evidence, &named).is_accepted());

    // A debug enclave needs its own line.
    let evidence = verify(
        &quote_bytes(&service, PRODUCTION | 2),
        &collateral,
        &[anchor],
        NOW,
    )
    .expect("verified");
    assert!(!appraise(&evidence, &named).is_accepted());
    let both = Tolerances::from_entries([line.as_str(), "debug-mode"], []).expect("entries");
    assert!(appraise(&evidence, &both).is_accepted());
}

#[test]
fn reports_of_other_platforms_targets_or_forgers_get_no_quote() {
    let dir = tempfile::tempdir().expect("directory");
    let (_, service) = fresh(dir.path());
    let elsewhere = tempfile::tempdir().expect("directory");
    let (_, other) = fresh(elsewhere.path());
    let genuine = report(&service, PRODUCTION);
    let refused = |report: Vec<u8>| matches!(quote(&service, report), Answer::Error { .. });
    assert!(!refused(genuine.clone()));
    assert!(refused(report(&other, PRODUCTION)));
    for byte in 0..Report::SIZE {
        let mut forged = genuine.clone();
        forged[byte] ^= 1;
        assert!(refused(forged), "byte {byte}");
    }
    // A REPORT for another enclave than the quoting enclave.
    let mut target = target_info(&service);
    target.0[0] ^= 1;
    let request = Request::Ereport {
        targetinfo: target,
        reportdata: Base64(vec![9; 64]),
        secs: secs(PRODUCTION),
    };
    let Answer::Ereport { report } = service.answer(&request, Access::Cpu, NOW) else {
        panic!("no report");
    };
    assert!(refused(report.0));
    assert!(refused(vec![0; 431]));
}

#[test]
fn the_cpu_answers_through_the_unix_socket_only() {
    let dir = tempfile::tempdir().expect("directory");
    let (_, service) = fresh(dir.path());
    let ereport = Request::Ereport {
        targetinfo: target_info(&service),
        reportdata: Base64(vec![9; 64]),
        secs: secs(PRODUCTION),
    };
    let key_request = KeyRequest {
        key_name: name::SEAL,
        key_policy: KeyPolicy::MRENCLAVE | KeyPolicy::CONFIGID,
        isv_svn: 5,
        cpu_svn: [1; 16],
        attribute_mask: sgx::attributes::Attributes::default(),
        key_id: [0; 32],
        misc_mask: sgx::attributes::MiscSelect::empty(),
        config_svn: 6,
    };
    let egetkey = |request: &KeyRequest| Request::Egetkey {
        keyrequest: Base64(request.to_bytes().to_vec()),
        secs: secs(PRODUCTION),
    };
    for request in [&ereport, &egetkey(&key_request)] {
        assert!(matches!(
            service.answer(request, Access::Quotes, NOW),
            Answer::Error { .. }
        ));
    }
    let key = |request: &KeyRequest| service.answer(&egetkey(request), Access::Cpu, NOW);
    assert!(matches!(
        key(&key_request),
        Answer::Egetkey { key: Some(key), error: 0 } if key.0.len() == 16
    ));
    let newer = KeyRequest {
        isv_svn: 6,
        ..key_request.clone()
    };
    assert!(matches!(
        key(&newer),
        Answer::Egetkey {
            key: None,
            error: 64
        }
    ));
    let reserved = KeyRequest {
        key_policy: KeyPolicy::from_bits_retain(0x8000),
        ..key_request
    };
    assert!(matches!(key(&reserved), Answer::Error { .. }));
}

#[test]
fn an_opened_platform_is_the_one_that_was_made() {
    let dir = tempfile::tempdir().expect("directory");
    let (anchor, service) = fresh(dir.path());
    let path = dir.path().join("platform");
    let reopened = Platform::open(&path).expect("opens");
    assert_eq!(reopened.anchor().expect("anchor"), anchor);
    assert_eq!(PlatformInfo::read(&path).expect("info"), *reopened.info());
    let again = Service::new(reopened, NOW).expect("a service");
    // A REPORT from before the restart is still good.
    assert!(matches!(
        quote(&again, report(&service, PRODUCTION)),
        Answer::Quote { .. }
    ));
    assert_eq!(collateral(&again, NOW), collateral(&service, NOW));
    let Kind::Emulated(spki) = anchor.platform() else {
        panic!("not emulated");
    };
    assert_eq!(hex::encode(spki), again.anchor());
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("platform");
    Platform::init(&path, NOW).expect("a new platform");
    let before = fs::read(path.join("fuse.key")).expect("fuses");
    assert!(matches!(
        Platform::init(&path, NOW),
        Err(PlatformError::Exists { .. })
    ));
    assert_eq!(fs::read(path.join("fuse.key")).expect("fuses"), before);
    fs::create_dir(dir.path().join("other")).expect("directory");
    fs::write(dir.path().join("other/file"), "").expect("file");
    assert!(matches!(
        Platform::init(&dir.path().join("other"), NOW),
        Err(PlatformError::Exists { .. })
    ));
}

#[test]
fn secrets_are_for_the_owner_alone() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("platform");
    Platform::init(&path, NOW).expect("a new platform");
    let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o700);
    for key in [
        "fuse.key",
        "root.key",
        "pck-ca.key",
        "pck.key",
        "tcb-signing.key",
    ] {
        assert_eq!(mode(&path.join(key)), 0o600, "{key}");
        fs::set_permissions(path.join(key), fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(
            matches!(Platform::open(&path), Err(PlatformError::Exposed { .. })),
            "{key}"
        );
        fs::set_permissions(path.join(key), fs::Permissions::from_mode(0o600)).expect("chmod");
    }
    assert!(Platform::open(&path).is_ok());
}

#[test]
fn absent_and_damaged_platforms_are_told_apart() {
    let dir = tempfile::tempdir().expect("directory");
    assert!(matches!(
        Platform::open(dir.path()),
        Err(PlatformError::Absent { .. })
    ));
    let path = dir.path().join("platform");
    Platform::init(&path, NOW).expect("a new platform");
    fs::write(path.join("tcb-info.json"), "{}").expect("write");
    assert!(matches!(
        Platform::open(&path),
        Err(PlatformError::Damaged { .. })
    ));
}

#[test]
fn collateral_is_renewed_before_it_expires() {
    let dir = tempfile::tempdir().expect("directory");
    let (anchor, service) = fresh(dir.path());
    let anchors = [anchor];
    let quote = quote_bytes(&service, PRODUCTION);
    let old = collateral(&service, NOW);
    assert_eq!(collateral(&service, NOW.plus(19 * DAY)), old);
    let later = NOW.plus(40 * DAY);
    assert!(matches!(
        verify(&quote, &old, &anchors, later),
        Err(VerifyError::Expired { .. })
    ));
    let new = collateral(&service, later);
    let evidence = verify(&quote, &new, &anchors, later).expect("renewed");
    let before = verify(&quote, &old, &anchors, NOW).expect("old").freshness;
    assert!(evidence.freshness.root_crl_number > before.root_crl_number);
    assert!(evidence.freshness.issued > before.issued);
    // A restart renews, too, and what was renewed is on disk.
    let path = dir.path().join("platform");
    let much_later = NOW.plus(90 * DAY);
    let restarted = Service::new(Platform::open(&path).expect("opens"), much_later).expect("runs");
    let renewed = collateral(&restarted, much_later);
    assert!(verify(&quote, &renewed, &anchors, much_later).is_ok());
    let again = Platform::open(&path)
        .expect("opens")
        .collateral(much_later)
        .cloned();
    assert_eq!(again.expect("collateral"), renewed);
}

#[test]
fn other_machines_collateral_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let (_, service) = fresh(dir.path());
    for (fmspc, ca) in [("00A067110000", "platform"), ("454D55534758", "processor")] {
        let request = Request::Collateral {
            fmspc: fmspc.to_owned(),
            ca: ca.to_owned(),
        };
        assert!(matches!(
            service.answer(&request, Access::Quotes, NOW),
            Answer::Error { .. }
        ));
    }
}

#[test]
fn flipped_bits_of_an_emulated_quote_are_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let (anchor, service) = fresh(dir.path());
    let anchors = [anchor];
    let quote = quote_bytes(&service, PRODUCTION);
    let collateral = collateral(&service, NOW);
    let expected = verify(&quote, &collateral, &anchors, NOW).expect("verified");
    let mut bytes = quote.clone();
    for bit in (0..1012 * 8).step_by(13) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        match verify(&bytes, &collateral, &anchors, NOW) {
            Err(_) => {}
            Ok(evidence) => assert!(
                evidence == expected && (432..436).contains(&(bit / 8)),
                "bit {bit} is accepted"
            ),
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let mut stale = collateral.clone();
    stale.tcb_info.push(' ');
    assert!(matches!(
        verify(&quote, &stale, &anchors, NOW),
        Err(VerifyError::Signature {
            part: Part::TcbInfo
        })
    ));
}
