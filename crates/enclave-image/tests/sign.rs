// SPDX-License-Identifier: Apache-2.0
//! Signing with keys that openssl makes.

use std::path::Path;
use std::process::Command;

use enclave_image::sign::{Identity, RESERVED_ISV_PROD_ID, SignError, Signer};
use sgx::attributes::{Attributes, Flags};
use sgx::sigstruct::Sigstruct;

fn openssl(dir: &Path, args: &[&str]) -> Vec<u8> {
    let out = Command::new("openssl")
        .args(args)
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

#[test]
fn keys_of_openssl_sign_in_both_encodings() {
    let dir = tempfile::tempdir().unwrap();
    let pkcs8 = openssl(dir.path(), &["genrsa", "-3", "3072"]);
    std::fs::write(dir.path().join("key.pem"), &pkcs8).unwrap();
    let pkcs1 = openssl(dir.path(), &["rsa", "-in", "key.pem", "-traditional"]);
    assert!(pkcs1.starts_with(b"-----BEGIN RSA PRIVATE KEY"));
    let mut signed = Vec::new();
    for pem in [pkcs8, pkcs1] {
        let signer = Signer::from_pem(&pem).unwrap();
        assert!(!signer.is_debug_key());
        let sig = signer
            .sign([5; 32], false, &Identity::new(1, 2).unwrap())
            .unwrap();
        let again = Sigstruct::from_bytes(&sig.to_bytes()).unwrap();
        again.verify().unwrap();
        assert_eq!(again.body.mrenclave, [5; 32]);
        assert_eq!((again.body.isv_prod_id, again.body.isv_svn), (1, 2));
        assert_eq!(again.mrsigner(), signer.mrsigner());
        signed.push(sig.to_bytes());
    }
    assert!(signed[0] == signed[1], "signing is reproducible");

    // Second opinion: openssl verifies the same bytes.
    let sig = Sigstruct::from_bytes(&signed[0]).unwrap();
    let mut signature = sig.signature;
    signature.reverse();
    std::fs::write(dir.path().join("signed"), sig.body.signed_bytes()).unwrap();
    std::fs::write(dir.path().join("signature"), signature).unwrap();
    let public = openssl(dir.path(), &["pkey", "-in", "key.pem", "-pubout"]);
    std::fs::write(dir.path().join("public.pem"), public).unwrap();
    let args = [
        "dgst",
        "-sha256",
        "-verify",
        "public.pem",
        "-signature",
        "signature",
        "signed",
    ];
    assert!(openssl(dir.path(), &args).starts_with(b"Verified OK"));
}

#[test]
fn unsuitable_keys_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let make = |args: &[&str]| openssl(dir.path(), args);
    let refuse = |pem: &[u8]| Signer::from_pem(pem).unwrap_err();
    let good = make(&["genrsa", "-3", "3072"]);
    std::fs::write(dir.path().join("key.pem"), &good).unwrap();

    let small = refuse(&make(&["genrsa", "-3", "2048"]));
    assert!(matches!(small, SignError::KeySize { bits: 2048 }));
    let large = refuse(&make(&["genrsa", "-3", "4096"]));
    assert!(matches!(large, SignError::KeySize { bits: 4096 }));
    assert!(matches!(
        refuse(&make(&["genrsa", "3072"])),
        SignError::Exponent
    ));
    for args in [
        &["pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:x"][..],
        &[
            "rsa",
            "-in",
            "key.pem",
            "-traditional",
            "-aes128",
            "-passout",
            "pass:x",
        ],
    ] {
        assert!(matches!(refuse(&make(args)), SignError::Encrypted));
    }
    let public = refuse(&make(&["rsa", "-in", "key.pem", "-pubout"]));
    assert!(matches!(public, SignError::Label { label } if label == "PUBLIC KEY"));
    let curve = make(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]);
    assert!(matches!(refuse(&curve), SignError::NotRsa(_)));
    for garbage in [
        &b""[..],
        b"\xff\xfe",
        b"hello",
        &good[..good.len() / 2],
        &vec![b'a'; 1 << 20],
    ] {
        assert!(matches!(refuse(garbage), SignError::NotPem));
    }
    assert!(!format!("{:?}", Signer::debug()).contains("0x"));
}

#[test]
fn debug_key_signs_debug_enclaves_only() {
    let debug = Signer::debug();
    assert!(debug.is_debug_key());
    let identity = Identity::default();
    assert!(matches!(
        debug.sign([0; 32], false, &identity),
        Err(SignError::DebugKey)
    ));
    let sig = debug.sign([0; 32], true, &identity).unwrap();
    assert!(sig.body.attributes.flags.contains(Flags::DEBUG));

    // Giving the same key as a file does not launder it.
    let pem = include_bytes!("../src/debug-key.pem");
    let signer = Signer::from_pem(pem).unwrap();
    assert!(matches!(
        signer.sign([0; 32], false, &identity),
        Err(SignError::DebugKey)
    ));
}

#[test]
fn product_id_of_the_configuration_server_is_reserved() {
    assert!(matches!(
        Identity::new(RESERVED_ISV_PROD_ID, 0),
        Err(SignError::ReservedProductId)
    ));
    assert_eq!(
        Identity::configuration_server(1).isv_prod_id(),
        RESERVED_ISV_PROD_ID
    );
}

#[test]
fn signature_accepts_both_vector_profiles_and_no_other_attribute() {
    let sig = Signer::debug()
        .sign([0; 32], true, &Identity::default())
        .unwrap();
    let accepts = |flags: Flags, xfrm: u64| {
        let offered = Attributes { flags, xfrm };
        offered.masked(&sig.body.attribute_mask)
            == sig.body.attributes.masked(&sig.body.attribute_mask)
    };
    let flags = Flags::MODE64BIT | Flags::KSS | Flags::DEBUG;
    assert!(accepts(flags, 0x7));
    assert!(accepts(flags, 0xe7));
    assert!(accepts(flags | Flags::INIT, 0xe7));
    for xfrm in [0x3, 0x207, 0x6_00e7, 0x8e7] {
        assert!(!accepts(flags, xfrm), "{xfrm:#x}");
    }
    for other in [
        Flags::PROVISIONKEY,
        Flags::EINITTOKEN_KEY,
        Flags::CET,
        Flags::AEX_NOTIFY,
        Flags::from_bits_retain(1 << 3),
        Flags::from_bits_retain(1 << 63),
    ] {
        assert!(!accepts(flags | other, 0x7), "{other:?}");
    }
    assert!(!accepts(flags - Flags::DEBUG, 0x7));
    assert!(!accepts(flags - Flags::KSS, 0x7));
}
