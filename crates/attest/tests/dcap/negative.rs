// SPDX-License-Identifier: Apache-2.0
//! Evidence with exactly one fault each, made by an emulated PKI; every fault
//! must be refused for its own reason.

use crate::world::{NOW, Recipe, World, day, extension};
use attest::anchor::{Anchor, AnchorError, Platform};
use attest::dcap::{DocumentError, Part, TcbStatus, VerifyError, verify};
use attest::verdict::{Tolerances, appraise};
use las::pki::{Profile, qe_identity_text, tcb_info_text};
use proptest::prelude::*;
use sgx::attributes::Flags;
use sgx::quote::QuoteError;

pub(crate) fn refused(change: impl FnOnce(&mut Recipe)) -> VerifyError {
    World::new(&Recipe::with(change))
        .verify()
        .expect_err("must be refused")
}

fn status(change: impl FnOnce(&mut Recipe)) -> (TcbStatus, Vec<String>) {
    let evidence = World::new(&Recipe::with(change))
        .verify()
        .expect("verified");
    (evidence.status, evidence.advisories.clone())
}

#[test]
fn evidence_without_a_fault_is_accepted() {
    let world = World::good();
    let evidence = world.verify().expect("verified");
    assert_eq!(evidence.status, TcbStatus::UpToDate);
    assert_eq!(evidence.pck, extension());
    assert_eq!(evidence.freshness.tcb_evaluation, 3);
    assert_eq!(evidence.freshness.qe_evaluation, 4);
    assert_eq!(evidence.freshness.root_crl_number, Some(11));
    assert_eq!(evidence.freshness.issued, day(-1));
    assert_eq!(evidence.freshness.expires, day(29));
    let line = world.anchor().platform().to_string();
    let tolerances = Tolerances::from_entries([line.as_str()], []).expect("an entry");
    assert!(appraise(&evidence, &tolerances).is_accepted());
}

#[test]
fn expired_and_future_parts_are_refused() {
    for (part, error) in [
        (Part::TcbInfo, refused(|r| r.tcb_info.next_update = day(-1))),
        (
            Part::QeIdentity,
            refused(|r| r.qe_identity.next_update = day(-1)),
        ),
        (Part::RootCrl, refused(|r| r.crls = (day(-9), day(-1)))),
        (
            Part::PckChain,
            refused(|r| r.certificates = (day(-9), day(-1))),
        ),
    ] {
        assert!(
            matches!(&error, VerifyError::Expired { part: found, .. } if *found == part),
            "{error:?}"
        );
    }
    for (part, error) in [
        (Part::TcbInfo, refused(|r| r.tcb_info.issued = day(1))),
        (Part::QeIdentity, refused(|r| r.qe_identity.issued = day(1))),
        (Part::RootCrl, refused(|r| r.crls = (day(1), day(9)))),
        (
            Part::PckChain,
            refused(|r| r.certificates = (day(1), day(9))),
        ),
    ] {
        assert!(
            matches!(&error, VerifyError::NotYetValid { part: found, .. } if *found == part),
            "{error:?}"
        );
    }
}

#[test]
fn documents_of_other_machines_are_refused() {
    let error = refused(|r| r.tcb_info.fmspc[0] ^= 1);
    assert!(matches!(
        error,
        VerifyError::WrongPlatform { what: "FMSPC" }
    ));
    let error = refused(|r| r.tcb_info.pce_id[0] ^= 1);
    assert!(matches!(
        error,
        VerifyError::WrongPlatform { what: "PCEID" }
    ));
}

#[test]
fn documents_that_are_not_understood_are_refused_although_signed() {
    let recipe = Recipe::good();
    let tcb_info = tcb_info_text(&recipe.tcb_info);
    let qe_identity = qe_identity_text(&recipe.qe_identity);
    let mut world = World::good();
    for (from, to) in [
        (r#""id":"SGX""#, r#""id":"TDX""#),
        (r#""version":3"#, r#""version":2"#),
        (r#""version":3"#, r#""version":4"#),
        (r#""tcbType":0"#, r#""tcbType":1"#),
        (r#""UpToDate""#, r#""Splendid""#),
        (r#"[{"svn":5},"#, "["),
        (r#"[{"svn":5},"#, r#"[{"svn":5},{"svn":5},"#),
        (r#"{"svn":5}"#, r#"{"svn":256}"#),
        (r#"{"svn":5}"#, r#"{"svn":-1}"#),
        (r#""00A067110000""#, r#""00A0671100""#),
        (r#""advisoryIDs":[]"#, r#""advisoryIDs":["a b"]"#),
        (r#""issueDate":""#, r#""issueDate":"x"#),
        (r#""tcbLevels":["#, r#""tcbLevels":[0,"#),
    ] {
        let changed = tcb_info.replacen(from, to, 1);
        assert_ne!(changed, tcb_info, "{from}");
        world.sign_tcb_info(changed);
        let error = world.verify().expect_err("must be refused");
        assert!(
            matches!(
                &error,
                VerifyError::Document {
                    part: Part::TcbInfo,
                    ..
                }
            ),
            "{from} -> {to}: {error:?}"
        );
    }
    world.sign_tcb_info(tcb_info);
    for (from, to) in [
        (r#""id":"QE""#, r#""id":"TD_QE""#),
        (r#""version":2"#, r#""version":3"#),
        (r#""UpToDate""#, r#""uptodate""#),
        (r#""miscselect":"00000000""#, r#""miscselect":"000000""#),
        (r#""isvprodid":1"#, r#""isvprodid":65536"#),
    ] {
        let changed = qe_identity.replacen(from, to, 1);
        assert_ne!(changed, qe_identity, "{from}");
        world.sign_qe_identity(changed);
        let error = world.verify().expect_err("must be refused");
        assert!(
            matches!(
                &error,
                VerifyError::Document {
                    part: Part::QeIdentity,
                    ..
                }
            ),
            "{from} -> {to}: {error:?}"
        );
    }
    let id = |error: VerifyError| match error {
        VerifyError::Document {
            source: DocumentError::Id { id, .. },
            ..
        } => id,
        other => panic!("{other:?}"),
    };
    world.sign_qe_identity(qe_identity.replacen("\"QE\"", "\"TD_QE\"", 1));
    assert_eq!(id(world.verify().expect_err("refused")), "TD_QE");
}

#[test]
fn members_that_intel_may_add_are_no_error() {
    let recipe = Recipe::good();
    let mut world = World::good();
    let text = tcb_info_text(&recipe.tcb_info).replacen('{', r#"{"news":[1,{"a":null}],"#, 1);
    world.sign_tcb_info(text);
    world.verify().expect("verified");
}

#[test]
fn documents_are_signed_as_they_are_received() {
    let mut world = World::good();
    // The same JSON value, other bytes.
    world.collateral.tcb_info = world.collateral.tcb_info.replacen(':', ": ", 1);
    assert!(matches!(
        world.verify(),
        Err(VerifyError::Signature {
            part: Part::TcbInfo
        })
    ));
}

#[test]
fn the_first_level_that_is_reached_in_every_component_decides() {
    let level = |first: [u8; 3], pce_svn, status| {
        let mut components = [1; 16];
        components[..3].copy_from_slice(&first);
        (components, pce_svn, status, Vec::new())
    };
    // The platform is 1,3,2 and PCESVN 7.
    let platform = |r: &mut Recipe| {
        let mut extension = extension();
        extension.components = [1; 16];
        extension.components[..3].copy_from_slice(&[1, 3, 2]);
        r.pck_profile = Profile::Pck(extension);
    };
    let found = |levels: Vec<_>| {
        World::new(&Recipe::with(|r| {
            platform(r);
            r.tcb_info.levels = levels;
        }))
        .verify()
        .map(|evidence| evidence.status)
    };
    use TcbStatus::{OutOfDate, SWHardeningNeeded, UpToDate};
    assert!(matches!(
        found(vec![level([1, 2, 3], 7, UpToDate)]),
        Err(VerifyError::NoLevel {
            part: Part::TcbInfo
        })
    ));
    assert!(matches!(
        found(vec![level([1, 3, 2], 8, UpToDate)]),
        Err(VerifyError::NoLevel { .. })
    ));
    assert!(found(vec![]).is_err());
    let levels = vec![
        level([1, 2, 3], 7, UpToDate),
        level([1, 3, 2], 7, SWHardeningNeeded),
        level([1, 1, 1], 1, OutOfDate),
    ];
    assert_eq!(found(levels.clone()).ok(), Some(SWHardeningNeeded));
    // The order in the document does not matter.
    let reversed = levels.into_iter().rev().collect();
    assert_eq!(found(reversed).ok(), Some(SWHardeningNeeded));
}

#[test]
fn status_of_platform_and_quoting_enclave_combine() {
    let advisories = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let (combined, union) = status(|r| {
        r.tcb_info.levels[0].2 = TcbStatus::ConfigurationAndSWHardeningNeeded;
        r.tcb_info.levels[0].3 = advisories(&["INTEL-SA-00003", "INTEL-SA-00001"]);
        r.qe_identity.levels[0].1 = TcbStatus::OutOfDate;
        r.qe_identity.levels[0].2 = advisories(&["INTEL-SA-00002", "INTEL-SA-00001"]);
    });
    assert_eq!(combined, TcbStatus::OutOfDateConfigurationNeeded);
    assert_eq!(
        union,
        ["INTEL-SA-00001", "INTEL-SA-00002", "INTEL-SA-00003"]
    );
    assert!(matches!(
        refused(|r| r.tcb_info.levels[0].2 = TcbStatus::Revoked),
        VerifyError::RevokedTcb
    ));
    assert!(matches!(
        refused(|r| r.qe_identity.levels[0].1 = TcbStatus::Revoked),
        VerifyError::RevokedTcb
    ));
}

#[test]
fn an_allowance_for_an_outdated_tcb_allows_no_expired_collateral() {
    let tolerances = Tolerances::from_entries(
        ["debug-mode", "outdated-tcb", "insecure-configuration"],
        ["*"],
    )
    .expect("entries");
    let world = World::new(&Recipe::with(|r| {
        r.tcb_info.levels[0].2 = TcbStatus::OutOfDate;
    }));
    let evidence = world.verify().expect("verified");
    let problems = appraise(&evidence, &tolerances);
    // Only the anchor is missing.
    assert_eq!(problems.remedy().map(|lines| lines.len()), Some(1));
    assert!(matches!(
        verify(&world.quote, &world.collateral, &[world.anchor()], day(30)),
        Err(VerifyError::Expired { .. })
    ));
}

#[test]
fn quoting_enclaves_that_are_not_the_identified_one_are_refused() {
    let field = |change: fn(&mut Recipe)| match refused(change) {
        VerifyError::QeMismatch { field } => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(|r| r.qe.mrsigner[0] ^= 1), "MRSIGNER");
    assert_eq!(field(|r| r.qe.isv_prod_id = 2), "ISVPRODID");
    assert_eq!(
        field(|r| r.qe.miscselect = sgx::attributes::MiscSelect::EXINFO),
        "MISCSELECT"
    );
    assert_eq!(
        field(|r| r.qe.attributes.flags |= Flags::DEBUG),
        "ATTRIBUTES"
    );
    // Even if the identity itself asks for a debug enclave.
    assert_eq!(
        field(|r| {
            r.qe.attributes.flags |= Flags::DEBUG;
            r.qe_identity.attributes = r.qe.attributes.to_bytes();
        }),
        "DEBUG"
    );
    assert!(matches!(
        refused(|r| r.qe_identity.levels[0].0 = 2),
        VerifyError::NoLevel {
            part: Part::QeIdentity
        }
    ));
}

#[test]
fn signatures_of_others_are_refused() {
    let good = World::good();
    let stranger = World::good();
    // Another quote's signature, key, QE report: none of them fits.
    for (part, range) in [(Part::Quote, 436..500), (Part::QeReport, 948..1012)] {
        let mut quote = good.quote.clone();
        quote[range.clone()].copy_from_slice(&stranger.quote[range]);
        let error = verify(&quote, &good.collateral, &[good.anchor()], NOW).expect_err("refused");
        assert!(
            matches!(&error, VerifyError::Signature { part: found } if *found == part),
            "{error:?}"
        );
    }
    let mut quote = good.quote.clone();
    quote[436..564].copy_from_slice(&stranger.quote[436..564]);
    assert!(matches!(
        verify(&quote, &good.collateral, &[good.anchor()], NOW),
        Err(VerifyError::QeBinding)
    ));
    for len in 0..good.quote.len() {
        assert!(matches!(
            verify(&good.quote[..len], &good.collateral, &[good.anchor()], NOW),
            Err(VerifyError::Quote(QuoteError::Truncated { .. }))
        ));
    }
}

#[test]
fn collateral_under_another_installed_anchor_is_refused() {
    // Both machines are trusted, have the same names, FMSPC and levels; still
    // nothing of one vouches for the other (S9).
    let ours = World::good();
    let theirs = World::good();
    let anchors = [theirs.anchor(), ours.anchor()];
    let evidence = verify(&ours.quote, &ours.collateral, &anchors, NOW).expect("verified");
    assert_eq!(evidence.platform, ours.anchor().platform());
    type Mix = fn(&mut attest::collateral::Collateral, &attest::collateral::Collateral);
    let mixes: [(&str, Mix); 8] = [
        ("TCB info", |c, o| {
            c.tcb_info_issuer_chain = o.tcb_info_issuer_chain.clone();
            c.tcb_info = o.tcb_info.clone();
            c.tcb_info_signature = o.tcb_info_signature.clone();
        }),
        ("QE identity", |c, o| {
            c.qe_identity_issuer_chain = o.qe_identity_issuer_chain.clone();
            c.qe_identity = o.qe_identity.clone();
            c.qe_identity_signature = o.qe_identity_signature.clone();
        }),
        ("root CRL", |c, o| c.root_ca_crl = o.root_ca_crl.clone()),
        ("PCK CRL", |c, o| c.pck_crl = o.pck_crl.clone()),
        ("PCK CRL and chain", |c, o| {
            c.pck_crl = o.pck_crl.clone();
            c.pck_crl_issuer_chain = o.pck_crl_issuer_chain.clone();
        }),
        ("TCB info chain", |c, o| {
            c.tcb_info_issuer_chain = o.tcb_info_issuer_chain.clone();
        }),
        ("TCB info text", |c, o| {
            c.tcb_info = o.tcb_info.clone();
            c.tcb_info_signature = o.tcb_info_signature.clone();
        }),
        ("everything", |c, o| *c = o.clone()),
    ];
    for (what, mix) in mixes {
        for (quote, own, other) in [
            (&ours.quote, &ours.collateral, &theirs.collateral),
            (&theirs.quote, &theirs.collateral, &ours.collateral),
        ] {
            let mut mixed = own.clone();
            mix(&mut mixed, other);
            assert!(verify(quote, &mixed, &anchors, NOW).is_err(), "{what}");
        }
    }
    // The foreign leaf below our root, as a chain.
    let mut mixed = ours.collateral.clone();
    mixed.tcb_info_issuer_chain = format!("{}{}", theirs.tcb_signer.pem, ours.root.pem);
    assert!(matches!(
        verify(&ours.quote, &mixed, &anchors, NOW),
        Err(VerifyError::Signature {
            part: Part::TcbInfoChain
        })
    ));
}

#[test]
fn only_self_signed_cas_become_anchors() {
    let world = World::good();
    assert!(matches!(world.anchor().platform(), Platform::Emulated(_)));
    for certificate in [&world.pck_ca, &world.tcb_signer, &world.pck] {
        assert!(matches!(
            Anchor::emulated(&certificate.der),
            Err(AnchorError::NotARoot)
        ));
    }
    let mut broken = world.root.der.clone();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    assert!(Anchor::emulated(&broken).is_err());
    assert!(Anchor::emulated(&[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_members_never_panic(
        pem in ".{0,200}",
        crl in "[0-9a-f]{0,200}",
        json in r#"[\{\}\[\]":,a-z0-9]{0,200}"#,
        which in 0_usize..9,
    ) {
        static WORLD: std::sync::LazyLock<World> = std::sync::LazyLock::new(World::good);
        let world = &*WORLD;
        let mut c = world.collateral.clone();
        match which {
            0 => c.pck_crl_issuer_chain = pem,
            1 => c.root_ca_crl = crl,
            2 => c.pck_crl = crl,
            3 => c.tcb_info_issuer_chain = pem,
            4 => { c.tcb_info_signature = world.tcb_signer.sign_document(&json).expect("signed"); c.tcb_info = json; }
            5 => c.tcb_info_signature = crl,
            6 => c.qe_identity_issuer_chain = pem,
            7 => { c.qe_identity_signature = world.tcb_signer.sign_document(&json).expect("signed"); c.qe_identity = json; }
            _ => c.qe_identity_signature = crl,
        }
        prop_assert!(verify(&world.quote, &c, &[world.anchor()], NOW).is_err());
    }

    #[test]
    fn changed_certificates_and_lists_never_panic_and_never_pass(
        list: bool,
        at: prop::sample::Index,
        bytes in proptest::collection::vec(any::<u8>(), 1..8),
    ) {
        static WORLD: std::sync::LazyLock<World> = std::sync::LazyLock::new(World::good);
        let world = &*WORLD;
        let mut c = world.collateral.clone();
        let mut der = if list {
            hex::decode(&c.pck_crl).expect("hex")
        } else {
            world.tcb_signer.der.clone()
        };
        let original = der.clone();
        let at = at.index(der.len());
        for (slot, byte) in der.iter_mut().skip(at).zip(bytes) {
            *slot = byte;
        }
        prop_assume!(der != original);
        if list {
            c.pck_crl = hex::encode(der);
        } else {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            c.tcb_info_issuer_chain = format!(
                "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n{}",
                world.root.pem
            );
        }
        prop_assert!(verify(&world.quote, &c, &[world.anchor()], NOW).is_err());
    }
}
