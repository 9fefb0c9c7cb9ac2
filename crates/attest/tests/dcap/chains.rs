// SPDX-License-Identifier: Apache-2.0
//! Chains, revocation lists and where certificates come from: each with one
//! fault.

use crate::negative::refused;
use crate::world::{CPU_SVN, NOW, Recipe, World, day, extension};
use attest::dcap::{Part, VerifyError, verify};
use las::pki::{CertificateSpec, CrlSpec, Entity, Profile};

#[test]
fn certificates_of_the_wrong_kind_are_refused() {
    // A CA as leaf, and a certificate without the SGX extension.
    assert!(matches!(
        refused(|r| r.pck_profile = Profile::Ca(0)),
        VerifyError::Chain {
            part: Part::PckChain,
            ..
        }
    ));
    assert!(matches!(
        refused(|r| r.pck_profile = Profile::DocumentSigner),
        VerifyError::Extension
    ));
    // The right key and rights under a wrong name.
    assert!(matches!(
        refused(|r| r.pck_name = "Some certificate"),
        VerifyError::Name {
            part: Part::PckChain,
            ..
        }
    ));
    assert!(matches!(
        refused(|r| r.tcb_name = "Ensconce Emulated SGX PCK Certificate"),
        VerifyError::Name {
            part: Part::TcbInfoChain,
            ..
        }
    ));
}

#[test]
fn revoked_certificates_are_refused() {
    let part = |change: fn(&mut Recipe)| match refused(change) {
        VerifyError::RevokedCertificate { part } => part,
        other => panic!("{other:?}"),
    };
    assert_eq!(part(|r| r.revoke_pck = true), Part::PckChain);
    assert_eq!(part(|r| r.revoke_pck_ca = true), Part::PckChain);
    assert_eq!(part(|r| r.revoke_tcb_signer = true), Part::TcbInfoChain);
}

#[test]
fn lists_of_other_issuers_are_refused() {
    let spec = CrlSpec {
        this_update: day(-1),
        next_update: day(29),
        number: 1,
        revoked: &[],
    };
    let mut world = World::good();
    let swapped = world.collateral.pck_crl.clone();
    world.collateral.root_ca_crl = swapped;
    assert!(matches!(
        world.verify(),
        Err(VerifyError::CrlIssuer {
            part: Part::RootCrl
        })
    ));
    let mut world = World::good();
    // The same name, another key.
    let impostor = World::good();
    world.collateral.pck_crl = hex::encode(impostor.pck_ca.issue_crl(&spec).expect("a CRL"));
    assert!(matches!(
        world.verify(),
        Err(VerifyError::Signature { part: Part::PckCrl })
    ));
    let mut world = World::good();
    // A PCK CRL of another CA below the same root.
    let other = Entity::issue(
        &CertificateSpec {
            common_name: "Ensconce Emulated SGX PCK Processor CA",
            profile: Profile::Ca(0),
            not_before: day(-1),
            not_after: day(100),
        },
        Some(&world.root),
    )
    .expect("a CA");
    world.collateral.pck_crl_issuer_chain = format!("{}{}", other.pem, world.root.pem);
    world.collateral.pck_crl = hex::encode(other.issue_crl(&spec).expect("a CRL"));
    assert!(matches!(
        world.verify(),
        Err(VerifyError::CrlIssuer { part: Part::PckCrl })
    ));
}

#[test]
fn short_long_and_reordered_chains_are_refused() {
    let good = World::good();
    let (pck, ca, root) = (&good.pck.pem, &good.pck_ca.pem, &good.root.pem);
    for chain in [
        String::new(),
        "no PEM at all".to_owned(),
        root.clone(),
        format!("{pck}{root}"),
        format!("{pck}{ca}"),
        format!("{pck}{ca}{ca}"),
        format!("{ca}{pck}{root}"),
        format!("{root}{ca}{pck}"),
        format!("{pck}{ca}{root}{root}"),
        format!("{ca}{ca}{root}"),
        format!("{pck}{pck}{root}"),
    ] {
        let mut world = World::good();
        world.quote = good.quote.clone();
        world.collateral = good.collateral.clone();
        world.certify(
            5,
            if chain.is_empty() {
                b" "
            } else {
                chain.as_bytes()
            },
        );
        let result = verify(&world.quote, &good.collateral, &[good.anchor()], NOW);
        assert!(result.is_err(), "{chain}");
    }
    for chain in [String::new(), root.clone(), format!("{root}{root}")] {
        let mut collateral = good.collateral.clone();
        collateral.tcb_info_issuer_chain = chain;
        assert!(verify(&good.quote, &collateral, &[good.anchor()], NOW).is_err());
    }
}

#[test]
fn a_ca_below_the_pck_ca_cannot_stand_in_for_it() {
    // Root -> CA -> sub-CA; the sub-CA's certificates are one level too deep.
    let world = World::good();
    let spec = |common_name, profile| CertificateSpec {
        common_name,
        profile,
        not_before: day(-1),
        not_after: day(100),
    };
    let sub = Entity::issue(
        &spec("Ensconce Emulated SGX PCK Platform CA", Profile::Ca(0)),
        Some(&world.pck_ca),
    )
    .expect("a CA");
    let pck = Entity::issue(
        &spec(
            "Ensconce Emulated SGX PCK Certificate",
            Profile::Pck(extension()),
        ),
        Some(&sub),
    )
    .expect("a certificate");
    let mut forged = World::good();
    forged.quote = world.quote.clone();
    let chain = format!("{}{}{}", pck.pem, sub.pem, world.root.pem);
    forged.certify(5, chain.as_bytes());
    assert!(verify(&forged.quote, &world.collateral, &[world.anchor()], NOW).is_err());
}

#[test]
fn other_certification_data_takes_the_chain_from_the_bundle() {
    let mut world = World::good();
    let leaf = world.pck.der.clone();
    world.certify(4, &leaf);
    assert!(matches!(world.verify(), Err(VerifyError::NoPckChain)));
    world.collateral.pck_certificate_chain = Some(world.chain());
    world.verify().expect("verified");
    world.certify(4, &World::good().pck.der);
    assert!(matches!(world.verify(), Err(VerifyError::Chain { .. })));

    let mut id = vec![0; 16];
    id.extend_from_slice(&CPU_SVN);
    id.extend_from_slice(&7_u16.to_le_bytes());
    id.extend_from_slice(&[0, 0]);
    world.certify(1, &id);
    world.verify().expect("verified");
    id[16] ^= 1;
    world.certify(1, &id);
    assert!(matches!(
        world.verify(),
        Err(VerifyError::WrongPlatform { .. })
    ));
}
