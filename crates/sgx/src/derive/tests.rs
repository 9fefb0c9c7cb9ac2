// SPDX-License-Identifier: Apache-2.0
use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

const CPU_SVN: [u8; 16] = [5; 16];

fn fuses() -> FuseKey {
    FuseKey::new([0x42; 32])
}

fn secs() -> SecsIdentity {
    SecsIdentity {
        attributes: Attributes {
            flags: Flags::INIT | Flags::MODE64BIT | Flags::KSS,
            xfrm: 0xe7,
        },
        miscselect: MiscSelect::EXINFO,
        mrenclave: [1; 32],
        mrsigner: [2; 32],
        isv_prod_id: 3,
        isv_svn: 4,
        config_id: [5; 64],
        config_svn: 6,
        isv_ext_prod_id: [7; 16],
        isv_family_id: [8; 16],
    }
}

fn seal(policy: KeyPolicy) -> KeyRequest {
    KeyRequest {
        key_name: name::SEAL,
        key_policy: policy,
        isv_svn: 4,
        cpu_svn: CPU_SVN,
        attribute_mask: Attributes {
            flags: Flags::all(),
            xfrm: !0,
        },
        key_id: [9; 32],
        misc_mask: MiscSelect::all(),
        config_svn: 6,
    }
}

fn key(request: &KeyRequest, secs: &SecsIdentity) -> [u8; 16] {
    *derive(&fuses(), request, secs, &CPU_SVN).expect("derivable")
}

// Computed by another implementation of AES-256-CMAC over the documented field
// order (OpenSSL 3, `openssl mac -cipher AES-256-CBC ... CMAC`).
#[test]
fn known_answers_hold() {
    let everything = KeyPolicy::MRENCLAVE
        | KeyPolicy::MRSIGNER
        | KeyPolicy::CONFIGID
        | KeyPolicy::ISVFAMILYID
        | KeyPolicy::ISVEXTPRODID;
    assert_eq!(
        hex::encode(key(&seal(everything), &secs())),
        include_str!("../../tests/golden/derive/seal.hex").trim()
    );
    let request = KeyRequest {
        key_name: name::REPORT,
        ..seal(KeyPolicy::empty())
    };
    assert_eq!(
        hex::encode(key(&request, &secs())),
        include_str!("../../tests/golden/derive/report.hex").trim()
    );
    let body = ReportBody::from_bytes(&[0xab; 384]);
    assert_eq!(
        hex::encode(report_mac(&[0x11; 16], &body)),
        include_str!("../../tests/golden/derive/mac.hex").trim()
    );
}

/// Applies one change to the enclave's identity.
type Change = fn(&mut SecsIdentity);

#[test]
fn policy_bits_decide_what_a_seal_key_is_bound_to() {
    let cases: [(KeyPolicy, bool, Change); 8] = [
        (KeyPolicy::MRENCLAVE, true, |s| s.mrenclave[0] ^= 1),
        (KeyPolicy::MRSIGNER, true, |s| s.mrsigner[31] ^= 1),
        (KeyPolicy::CONFIGID, true, |s| s.config_id[63] ^= 1),
        (KeyPolicy::ISVFAMILYID, true, |s| s.isv_family_id[0] ^= 1),
        (KeyPolicy::ISVEXTPRODID, true, |s| s.isv_ext_prod_id[0] ^= 1),
        // Without the bit the product id is bound, with it it is not.
        (KeyPolicy::NOISVPRODID, false, |s| s.isv_prod_id ^= 1),
        (KeyPolicy::MRENCLAVE, true, |s| {
            s.attributes.flags ^= Flags::DEBUG;
        }),
        (KeyPolicy::MRENCLAVE, true, |s| {
            s.miscselect ^= MiscSelect::EXINFO;
        }),
    ];
    for (index, (bit, bound, change)) in cases.into_iter().enumerate() {
        let mut other = secs();
        change(&mut other);
        let differs = key(&seal(bit), &secs()) != key(&seal(bit), &other);
        assert_eq!(differs, bound, "case {index} with the bit");
    }
    let unbound: [Change; 5] = [
        |s| s.mrenclave[0] ^= 1,
        |s| s.mrsigner[31] ^= 1,
        |s| s.config_id[63] ^= 1,
        |s| s.isv_family_id[0] ^= 1,
        |s| s.isv_ext_prod_id[0] ^= 1,
    ];
    for (index, change) in unbound.into_iter().enumerate() {
        let mut other = secs();
        change(&mut other);
        let policy = KeyPolicy::empty();
        assert_eq!(
            key(&seal(policy), &secs()),
            key(&seal(policy), &other),
            "case {index} without the bit"
        );
    }
}

#[test]
fn the_debug_bit_is_bound_even_if_masked_out() {
    let mut request = seal(KeyPolicy::MRENCLAVE);
    request.attribute_mask = Attributes::default();
    let mut debug = secs();
    debug.attributes.flags |= Flags::DEBUG;
    assert_ne!(key(&request, &secs()), key(&request, &debug));
    let mut xfrm = secs();
    xfrm.attributes.xfrm = 7;
    assert_eq!(key(&request, &secs()), key(&request, &xfrm));
}

#[test]
fn an_unset_masked_bit_is_not_a_mask_that_leaves_it_out() {
    let mut without = seal(KeyPolicy::MRENCLAVE);
    without.misc_mask = MiscSelect::empty();
    let mut zero = secs();
    zero.miscselect = MiscSelect::empty();
    assert_ne!(
        key(&without, &zero),
        key(&seal(KeyPolicy::MRENCLAVE), &zero)
    );
}

#[test]
fn versions_above_the_own_are_refused() {
    let mut request = seal(KeyPolicy::MRENCLAVE);
    request.isv_svn = 5;
    let refused = derive(&fuses(), &request, &secs(), &CPU_SVN).expect_err("ISVSVN");
    assert_eq!(refused.rax(), Some(error::INVALID_ISVSVN));

    let mut request = seal(KeyPolicy::MRENCLAVE);
    request.cpu_svn[15] = 6;
    let refused = derive(&fuses(), &request, &secs(), &CPU_SVN).expect_err("CPUSVN");
    assert_eq!(refused.rax(), Some(error::INVALID_CPUSVN));

    let mut request = seal(KeyPolicy::CONFIGID);
    request.config_svn = 7;
    let refused = derive(&fuses(), &request, &secs(), &CPU_SVN).expect_err("CONFIGSVN");
    assert_eq!(refused.rax(), Some(error::INVALID_ISVSVN));

    // Older versions stay derivable and give other keys.
    let mut request = seal(KeyPolicy::MRENCLAVE);
    request.isv_svn = 3;
    assert_ne!(
        key(&request, &secs()),
        key(&seal(KeyPolicy::MRENCLAVE), &secs())
    );
}

#[test]
fn reserved_policy_bits_fault() {
    for bit in 6..16 {
        let request = seal(KeyPolicy::from_bits_retain(1 << bit));
        let refused = derive(&fuses(), &request, &secs(), &CPU_SVN).expect_err("reserved");
        assert!(matches!(refused, DeriveError::ReservedPolicy { .. }));
        assert_eq!(refused.rax(), None);
    }
}

#[test]
fn kss_policies_need_an_enclave_with_kss() {
    let mut plain = secs();
    plain.attributes.flags -= Flags::KSS;
    for bit in 2..6 {
        let request = seal(KeyPolicy::from_bits_retain(1 << bit));
        let refused = derive(&fuses(), &request, &plain, &CPU_SVN).expect_err("no KSS");
        assert_eq!(refused.rax(), None);
    }
    assert!(derive(&fuses(), &seal(KeyPolicy::MRENCLAVE), &plain, &CPU_SVN).is_ok());
}

#[test]
fn other_keys_are_refused() {
    for key_name in [name::EINITTOKEN, name::PROVISION, 5, 0xffff] {
        let request = KeyRequest {
            key_name,
            ..seal(KeyPolicy::empty())
        };
        let refused = derive(&fuses(), &request, &secs(), &CPU_SVN).expect_err("no such key");
        assert_eq!(refused.rax(), Some(error::INVALID_KEYNAME));
    }
    let request = KeyRequest {
        key_name: name::PROVISION_SEAL,
        ..seal(KeyPolicy::empty())
    };
    let refused = derive(&fuses(), &request, &secs(), &CPU_SVN).expect_err("no attribute");
    assert_eq!(refused.rax(), Some(error::INVALID_ATTRIBUTE));
    let mut provisioner = secs();
    provisioner.attributes.flags |= Flags::PROVISIONKEY;
    let provision = key(&request, &provisioner);
    assert_ne!(provision, key(&seal(KeyPolicy::MRSIGNER), &provisioner));
}

#[test]
fn debug_output_hides_the_fuses() {
    assert_eq!(alloc::format!("{:?}", fuses()), "FuseKey([redacted])");
}

proptest! {
    #[test]
    fn only_the_named_target_on_this_platform_accepts_a_report(
        target in any::<[u8; 32]>(),
        other in any::<[u8; 32]>(),
        data in proptest::collection::vec(any::<u8>(), 64),
        key_id in any::<[u8; 32]>(),
        flip in 0usize..384 * 8,
    ) {
        prop_assume!(target != other);
        let data: [u8; 64] = data.try_into().expect("64 bytes");
        let named = SecsIdentity { mrenclave: target, ..secs() };
        let report = ereport(&fuses(), &secs(), &named.target_info(), &data, &key_id, &CPU_SVN);
        prop_assert_eq!(report.body.report_data(), data);
        prop_assert!(report_is_for(&fuses(), &named.target_info(), &report, &CPU_SVN));

        // The target derives the same key by EGETKEY.
        let request = KeyRequest { key_name: name::REPORT, key_id, ..seal(KeyPolicy::empty()) };
        prop_assert_eq!(report_mac(&key(&request, &named), &report.body), report.mac);

        let stranger = SecsIdentity { mrenclave: other, ..secs() };
        prop_assert!(!report_is_for(&fuses(), &stranger.target_info(), &report, &CPU_SVN));
        let elsewhere = FuseKey::new([0x43; 32]);
        prop_assert!(!report_is_for(&elsewhere, &named.target_info(), &report, &CPU_SVN));
        let mut body: Vec<u8> = report.body.as_bytes().to_vec();
        body[flip / 8] ^= 1 << (flip % 8);
        let forged = Report {
            body: ReportBody::from_bytes(&body.try_into().expect("384 bytes")),
            ..report
        };
        prop_assert!(!report_is_for(&fuses(), &named.target_info(), &forged, &CPU_SVN));
    }

    #[test]
    fn derivation_never_panics(bytes in proptest::collection::vec(any::<u8>(), KeyRequest::SIZE)) {
        let mut bytes: [u8; KeyRequest::SIZE] = bytes.try_into().expect("512 bytes");
        bytes[6..8].fill(0);
        bytes[78..].fill(0);
        let request = KeyRequest::from_bytes(&bytes).expect("no reserved byte");
        let _ = derive(&fuses(), &request, &secs(), &CPU_SVN);
    }
}
