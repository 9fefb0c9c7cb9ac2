// SPDX-License-Identifier: Apache-2.0
//! A quote of a real machine with its whole collateral. The data is not part of
//! the repository: `ENSCONCE_VECTORS` names the directory that holds it.

use std::fs;
use std::path::PathBuf;

use crate::world::{Recipe, World, day};
use attest::anchor::{Anchor, Platform};
use attest::collateral::Collateral;
use attest::dcap::{Part, TcbStatus, VerifyError, verify};
use attest::time::UnixTime;
use attest::verdict::{Tolerances, appraise, appraise_platform};

/// One of the bundle's texts.
type Member = fn(&mut Collateral) -> &mut String;

/// A time inside every validity window of the collateral.
const WITHIN: &str = "2025-06-20T00:00:00Z";

fn at(text: &str) -> UnixTime {
    UnixTime::parse(text).expect("a time")
}

/// Quote and collateral, or nothing if the vectors are absent.
fn vectors() -> Option<(Vec<u8>, Collateral)> {
    let Some(root) = std::env::var_os("ENSCONCE_VECTORS").map(PathBuf::from) else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "ENSCONCE_VECTORS must be set in CI"
        );
        eprintln!("skipped: ENSCONCE_VECTORS is not set");
        return None;
    };
    let quote = fs::read(root.join("sgx/quote_v3.bin")).expect("quote");
    let bundle = fs::read(root.join("sgx/quote_v3.collateral.json")).expect("collateral");
    Some((quote, Collateral::from_json(&bundle).expect("a bundle")))
}

#[test]
fn the_real_quote_has_the_documented_status() {
    let Some((quote, collateral)) = vectors() else {
        return;
    };
    let evidence =
        verify(&quote, &collateral, &[Anchor::intel()], at(WITHIN)).expect("verified evidence");
    assert_eq!(evidence.platform, Platform::Intel);
    assert_eq!(
        evidence.status,
        TcbStatus::ConfigurationAndSWHardeningNeeded
    );
    assert_eq!(hex::encode_upper(evidence.pck.fmspc), "00A067110000");
    assert!(!evidence.advisories.is_empty());
    assert_eq!(evidence.freshness.tcb_evaluation, 17);
    assert!(evidence.freshness.issued <= at(WITHIN));
    assert!(evidence.freshness.expires >= at(WITHIN));
}

#[test]
fn intels_root_is_the_published_certificate() {
    assert_eq!(
        hex::encode_upper(Anchor::intel().certificate_sha256()),
        "44A0196B2B99F889B8E149E95B807A350E7424964399E885A7CBB8CCFAB674D3"
    );
}

#[test]
fn every_reason_is_listed_with_the_line_that_tolerates_it() {
    let Some((quote, collateral)) = vectors() else {
        return;
    };
    let evidence =
        verify(&quote, &collateral, &[Anchor::intel()], at(WITHIN)).expect("verified evidence");
    let refused = appraise_platform(&evidence, &Tolerances::default());
    assert!(!refused.is_accepted());
    let lines = refused.remedy().expect("everything can be tolerated");
    assert_eq!(
        lines[0],
        "tolerate: [insecure-configuration, software-hardening-needed]"
    );
    let advisories = lines[1]
        .strip_prefix("ignore_advisories: [")
        .and_then(|rest| rest.strip_suffix(']'))
        .expect("a list");
    assert_eq!(advisories, evidence.advisories.join(", "));

    // The lines do what they say, and each of them is needed.
    let tolerances = Tolerances::from_entries(
        ["insecure-configuration", "software-hardening-needed"],
        advisories.split(", "),
    )
    .expect("own lines");
    assert!(appraise_platform(&evidence, &tolerances).is_accepted());
    for without in advisories.split(", ") {
        let fewer = Tolerances {
            advisories: tolerances
                .advisories
                .iter()
                .filter(|id| *id != without)
                .cloned()
                .collect(),
            ..tolerances.clone()
        };
        assert!(
            !appraise_platform(&evidence, &fewer).is_accepted(),
            "{without}"
        );
    }
    // It is no enclave of ours: no tolerance makes its attributes acceptable.
    let verdict = appraise(&evidence, &tolerances);
    assert!(!verdict.is_accepted());
    assert_eq!(verdict.remedy(), None);
}

#[test]
fn outside_the_time_window_nothing_is_accepted() {
    let Some((quote, collateral)) = vectors() else {
        return;
    };
    let verify_at = |time| verify(&quote, &collateral, &[Anchor::intel()], at(time));
    let evidence = verify_at(WITHIN).expect("inside");
    let (issued, expires) = (evidence.freshness.issued, evidence.freshness.expires);
    let verify_second = |time| verify(&quote, &collateral, &[Anchor::intel()], time);
    assert!(verify_second(issued).is_ok());
    assert!(verify_second(expires).is_ok());
    assert!(matches!(
        verify_second(UnixTime(issued.0 - 1)),
        Err(VerifyError::NotYetValid { .. })
    ));
    assert!(matches!(
        verify_second(expires.plus(1)),
        Err(VerifyError::Expired { .. })
    ));
    assert!(matches!(
        verify_at("2017-01-01T00:00:00Z"),
        Err(VerifyError::NotYetValid { .. })
    ));
    assert!(matches!(
        verify_at("2060-01-01T00:00:00Z"),
        Err(VerifyError::Expired { .. })
    ));
}

#[test]
fn without_intels_anchor_the_real_quote_is_refused() {
    let Some((quote, collateral)) = vectors() else {
        return;
    };
    assert!(matches!(
        verify(&quote, &collateral, &[], at(WITHIN)),
        Err(VerifyError::UnknownRoot {
            part: Part::PckChain,
            ..
        })
    ));
}

/// What happens to a flipped bit: whether it must be refused or may also leave
/// the verdict as it is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Rule {
    Refused,
    RefusedOrSame,
}

#[test]
fn flipped_bits_are_refused_or_change_nothing() {
    let Some((quote, collateral)) = vectors() else {
        return;
    };
    let expected =
        verify(&quote, &collateral, &[Anchor::intel()], at(WITHIN)).expect("verified evidence");
    let check =
        |quote: &[u8], collateral: &Collateral, rule: Rule, what: &str, bit: usize| match verify(
            quote,
            collateral,
            &[Anchor::intel()],
            at(WITHIN),
        ) {
            Err(_) => {}
            Ok(evidence) => {
                assert_eq!(rule, Rule::RefusedOrSame, "{what}, bit {bit} is accepted");
                assert_eq!(evidence, expected, "{what}, bit {bit} changes the claims");
            }
        };

    // The quote: header, report, signatures, key, QE report, authentication
    // data are all signed or signatures; lengths and the PEM text are not.
    let mut bytes = quote.clone();
    for bit in sample(quote.len() * 8, 600) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let byte = bit / 8;
        let signed = byte < 432 || (436..1012).contains(&byte) || (1014..1046).contains(&byte);
        let rule = if signed {
            Rule::Refused
        } else {
            Rule::RefusedOrSame
        };
        check(&bytes, &collateral, rule, "quote", bit);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }

    // The bundle's texts: documents are signed as they are, hexadecimal texts
    // may change case only.
    let texts: [(&str, Member, Rule); 9] = [
        (
            "PCK CRL chain",
            |c| &mut c.pck_crl_issuer_chain,
            Rule::RefusedOrSame,
        ),
        ("root CRL", |c| &mut c.root_ca_crl, Rule::RefusedOrSame),
        ("PCK CRL", |c| &mut c.pck_crl, Rule::RefusedOrSame),
        (
            "TCB info chain",
            |c| &mut c.tcb_info_issuer_chain,
            Rule::RefusedOrSame,
        ),
        ("TCB info", |c| &mut c.tcb_info, Rule::Refused),
        (
            "TCB info signature",
            |c| &mut c.tcb_info_signature,
            Rule::RefusedOrSame,
        ),
        (
            "QE identity chain",
            |c| &mut c.qe_identity_issuer_chain,
            Rule::RefusedOrSame,
        ),
        ("QE identity", |c| &mut c.qe_identity, Rule::Refused),
        (
            "QE identity signature",
            |c| &mut c.qe_identity_signature,
            Rule::RefusedOrSame,
        ),
    ];
    for (what, text, rule) in texts {
        let mut changed = collateral.clone();
        let original = text(&mut changed).clone();
        for bit in sample(original.len() * 8, 120) {
            let mut bytes = original.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // A flip that is no UTF-8 cannot even be a bundle.
            let Ok(flipped) = String::from_utf8(bytes) else {
                continue;
            };
            *text(&mut changed) = flipped;
            check(&quote, &changed, rule, what, bit);
        }
    }

    // Decoded CRLs and signatures: no bit may change at all.
    let decoded: [(&str, Member); 4] = [
        ("root CRL", |c| &mut c.root_ca_crl),
        ("PCK CRL", |c| &mut c.pck_crl),
        ("TCB info signature", |c| &mut c.tcb_info_signature),
        ("QE identity signature", |c| &mut c.qe_identity_signature),
    ];
    for (what, text) in decoded {
        let mut changed = collateral.clone();
        let original = hex::decode(text(&mut changed)).expect("hex");
        for bit in sample(original.len() * 8, 200) {
            let mut der = original.clone();
            der[bit / 8] ^= 1 << (bit % 8);
            *text(&mut changed) = hex::encode(der);
            check(&quote, &changed, Rule::Refused, what, bit);
        }
    }
}

#[test]
fn flipped_bits_of_decoded_certificates_are_refused() {
    let Some((quote, collateral)) = vectors() else {
        return;
    };
    let chains: [(&str, Member); 3] = [
        ("PCK CRL chain", |c| &mut c.pck_crl_issuer_chain),
        ("TCB info chain", |c| &mut c.tcb_info_issuer_chain),
        ("QE identity chain", |c| &mut c.qe_identity_issuer_chain),
    ];
    for (what, text) in chains {
        let mut changed = collateral.clone();
        let original = certificates(text(&mut changed).as_bytes());
        for (index, certificate) in original.iter().enumerate() {
            for bit in sample(certificate.len() * 8, 150) {
                let mut flipped = original.clone();
                flipped[index][bit / 8] ^= 1 << (bit % 8);
                *text(&mut changed) = pem(&flipped);
                assert!(
                    verify(&quote, &changed, &[Anchor::intel()], at(WITHIN)).is_err(),
                    "{what}, certificate {index}, bit {bit} is accepted"
                );
            }
        }
    }
    // The chain inside the quote.
    let head = &quote[..436 + 576 + 2 + 32 + 6];
    let original = certificates(&quote[head.len()..]);
    assert_eq!(original.len(), 3);
    for (index, certificate) in original.iter().enumerate() {
        for bit in sample(certificate.len() * 8, 150) {
            let mut flipped = original.clone();
            flipped[index][bit / 8] ^= 1 << (bit % 8);
            let changed = with_chain(head, pem(&flipped).as_bytes());
            assert!(
                verify(&changed, &collateral, &[Anchor::intel()], at(WITHIN)).is_err(),
                "certificate {index}, bit {bit} is accepted"
            );
        }
    }
    // The rebuilding itself is sound.
    let rebuilt = with_chain(head, pem(&original).as_bytes());
    assert!(verify(&rebuilt, &collateral, &[Anchor::intel()], at(WITHIN)).is_ok());
}

/// A quote with another chain; lengths fixed up.
fn with_chain(head: &[u8], chain: &[u8]) -> Vec<u8> {
    let mut quote = head.to_vec();
    let data_at = head.len() - 4;
    quote[data_at..].copy_from_slice(&u32::try_from(chain.len()).expect("small").to_le_bytes());
    quote.extend_from_slice(chain);
    let auth_len = u32::try_from(quote.len() - 436).expect("small");
    quote[432..436].copy_from_slice(&auth_len.to_le_bytes());
    quote
}

fn certificates(text: &[u8]) -> Vec<Vec<u8>> {
    use rustls_pki_types::pem::PemObject as _;
    rustls_pki_types::CertificateDer::pem_slice_iter(text)
        .map(|der| der.expect("PEM").to_vec())
        .collect()
}

fn pem(certificates: &[Vec<u8>]) -> String {
    use base64::Engine as _;
    certificates
        .iter()
        .map(|der| {
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        })
        .collect()
}

/// `count` different numbers below `below`, the same ones in every run.
fn sample(below: usize, count: usize) -> Vec<usize> {
    let step = (below / count.max(1)).max(1);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..below)
        .step_by(step)
        .map(|base| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let offset =
                usize::try_from(state % u64::try_from(step).expect("small")).expect("small");
            (base + offset).min(below - 1)
        })
        .collect()
}

#[test]
fn emulated_collateral_does_not_vouch_for_intels_machines_nor_the_reverse() {
    let Some((quote, intel)) = vectors() else {
        return;
    };
    // The emulated machine claims the same FMSPC and PCEID, and issues its
    // documents for the time at which Intel's are valid.
    let emulated = World::new(&Recipe::with(|recipe| {
        recipe.certificates = (UnixTime(at(WITHIN).0 - crate::world::DAY), day(3650));
        recipe.crls = recipe.certificates;
        recipe.tcb_info.issued = recipe.certificates.0;
        recipe.qe_identity.issued = recipe.certificates.0;
    }));
    let anchors = [Anchor::intel(), emulated.anchor()];
    let verify_at =
        |quote: &[u8], collateral: &Collateral| verify(quote, collateral, &anchors, at(WITHIN));
    assert!(verify_at(&quote, &intel).is_ok());
    assert!(verify_at(&emulated.quote, &emulated.collateral).is_ok());

    type Mix = fn(&mut Collateral, &Collateral);
    let mixes: [(&str, Mix); 4] = [
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
        ("PCK CRL", |c, o| {
            c.pck_crl_issuer_chain = o.pck_crl_issuer_chain.clone();
            c.pck_crl = o.pck_crl.clone();
        }),
    ];
    for (what, mix) in mixes {
        for (quote, own, other) in [
            (&quote, &intel, &emulated.collateral),
            (&emulated.quote, &emulated.collateral, &intel),
        ] {
            let mut mixed = own.clone();
            mix(&mut mixed, other);
            let error = verify_at(quote, &mixed).expect_err("mixed anchors");
            assert!(
                matches!(
                    error,
                    VerifyError::MixedAnchors { .. } | VerifyError::CrlIssuer { .. }
                ),
                "{what}: {error:?}"
            );
        }
    }
}
