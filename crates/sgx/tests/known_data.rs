// SPDX-License-Identifier: Apache-2.0
//! Known-good data from other implementations, read in place.

use std::path::PathBuf;

use sgx::measurement::Measurement;
use sgx::secinfo::SecInfo;
use sgx::sigstruct::{Sigstruct, SigstructError, quotients};

fn vector(name: &str) -> Option<Vec<u8>> {
    let Some(dir) = std::env::var_os("ENSCONCE_VECTORS") else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "ENSCONCE_VECTORS must be set in CI"
        );
        eprintln!("skipped: ENSCONCE_VECTORS is not set");
        return None;
    };
    let mut path = PathBuf::from(dir);
    if path.is_relative() {
        path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(path);
    }
    Some(std::fs::read(path.join(name)).expect("the vector is readable"))
}

#[test]
fn mrenclave_of_a_published_stream() {
    let Some(stream) = vector("sgxs/test_enclave.sgxs") else {
        return;
    };
    let mut at = 0;
    let mut measurement = None;
    while at < stream.len() {
        let record = &stream[at..at + 64];
        let number = u64::from_le_bytes(record[8..16].try_into().unwrap());
        at += 64;
        match &record[..8] {
            b"ECREATE\0" => {
                let size = u64::from_le_bytes(record[12..20].try_into().unwrap());
                measurement = Some(Measurement::ecreate(
                    u32::try_from(number & 0xffff_ffff).unwrap(),
                    size,
                ));
            }
            b"EADD\0\0\0\0" => {
                let bits = u64::from_le_bytes(record[16..24].try_into().unwrap());
                let secinfo = SecInfo::from_bits(bits).expect("a defined page type");
                measurement.as_mut().unwrap().eadd(number, &secinfo);
            }
            b"EEXTEND\0" => {
                let bytes = stream[at..at + 256].try_into().unwrap();
                measurement.as_mut().unwrap().eextend(number, bytes);
                at += 256;
            }
            other => panic!("unknown record {other:?}"),
        }
    }
    assert_eq!(
        hex::encode(measurement.unwrap().finish()),
        "784acfd7d5096a8f0fbd3265760bff21b120f62407a9a9e5ba31aa3c8ed198fc"
    );
}

#[test]
fn published_sigstructs_verify_and_round_trip() {
    for name in ["sgxs/test_enclave.sig", "sigstruct/sig1.sigstruct.bin"] {
        let Some(bytes) = vector(name) else { return };
        let bytes: [u8; Sigstruct::SIZE] = bytes.try_into().unwrap();
        let sig = Sigstruct::from_bytes(&bytes).unwrap();
        sig.verify().unwrap();
        assert_eq!(sig.to_bytes(), bytes, "{name}");
    }
    let bytes: [u8; Sigstruct::SIZE] = vector("sigstruct/sig1.sigstruct.bin")
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(
        hex::encode(Sigstruct::from_bytes(&bytes).unwrap().mrsigner()),
        "83d719e77deaca1470f6baf62a4d774303c899db69020f9c70ee1dfc08c7ce9e"
    );
}

#[test]
fn every_flipped_bit_of_a_sigstruct_is_refused() {
    let Some(bytes) = vector("sigstruct/sig1.sigstruct.bin") else {
        return;
    };
    let bytes: [u8; Sigstruct::SIZE] = bytes.try_into().unwrap();
    for at in 0..bytes.len() {
        // One bit of each byte; the bit differs from byte to byte.
        let mut bad = bytes;
        bad[at] ^= 1 << (at % 8);
        let refused = match Sigstruct::from_bytes(&bad) {
            Err(_) => true,
            Ok(sig) => sig.verify() == Err(SigstructError::Signature),
        };
        assert!(refused, "byte {at}");
    }
}

#[test]
fn quotients_equal_the_published_ones() {
    let Some(signature) = vector("sigstruct/sig1.sig.bin") else {
        return;
    };
    let little = |name: &str| -> [u8; 384] { vector(name).unwrap().try_into().unwrap() };
    let (q1, q2) = quotients(
        &signature.try_into().unwrap(),
        &little("sigstruct/sig1.key_n.bin"),
    )
    .unwrap();
    assert!(q1 == little("sigstruct/sig1.q1.bin"));
    assert!(q2 == little("sigstruct/sig1.q2.bin"));
}
