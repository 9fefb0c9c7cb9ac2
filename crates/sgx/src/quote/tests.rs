// SPDX-License-Identifier: Apache-2.0
use super::*;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

fn header() -> Header {
    Header {
        version: 3,
        key_type: KEY_TYPE_P256,
        qe_svn: 10,
        pce_svn: 15,
        qe_vendor: INTEL_QE_VENDOR,
        user_data: [7; 20],
    }
}

fn sample(qe_auth_data: &[u8], chain: &[u8]) -> Vec<u8> {
    let report = ReportBody::from_bytes(&[1; 384]);
    QuoteParts {
        signed: &QuoteParts::signed(&header(), &report),
        signature: &[2; 64],
        attestation_key: &[3; 64],
        qe_report: &ReportBody::from_bytes(&[4; 384]),
        qe_report_signature: &[5; 64],
        qe_auth_data,
        chain_pem: chain,
    }
    .encode()
    .expect("a small quote")
}

/// Replaces the certification data of a sample.
fn certified(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = sample(&[], b"x");
    let auth_len = 576 + 2 + 6 + data.len();
    bytes.truncate(436 + 576 + 2);
    bytes[432..436].copy_from_slice(&u32::try_from(auth_len).expect("small").to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(data.len()).expect("small").to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

#[test]
fn encoded_quotes_equal_their_golden_form() {
    let bytes = sample(b"auth", b"-----BEGIN");
    let golden = include_str!("../../tests/golden/quote/v3.hex");
    let golden: alloc::string::String = golden.split_whitespace().collect();
    assert_eq!(hex::encode(&bytes), golden);
}

#[test]
fn a_quote_is_read_as_written() {
    let bytes = sample(b"auth", b"chain");
    let quote = Quote::parse(&bytes).expect("own output");
    assert_eq!(quote.header, header());
    assert_eq!(quote.report.as_bytes(), &[1; 384]);
    assert_eq!(quote.signed.as_slice(), &bytes[..432]);
    assert_eq!(quote.signature, [2; 64]);
    assert_eq!(quote.attestation_key, [3; 64]);
    assert_eq!(quote.qe_report.as_bytes(), &[4; 384]);
    assert_eq!(quote.qe_report_signature, [5; 64]);
    assert_eq!(quote.qe_auth_data, b"auth");
    assert_eq!(quote.certification, Certification::Chain(b"chain"));
    assert_eq!(quote.len, bytes.len());
}

#[test]
fn a_tail_is_ignored() {
    let mut bytes = sample(b"", b"chain");
    let len = bytes.len();
    bytes.extend_from_slice(&[0xff; 100]);
    assert_eq!(Quote::parse(&bytes).expect("with tail").len, len);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample(b"auth", b"chain");
    for len in 0..bytes.len() {
        let refused = Quote::parse(&bytes[..len]);
        assert!(
            matches!(refused, Err(QuoteError::Truncated { .. })),
            "{len}"
        );
    }
}

#[test]
fn other_versions_keys_tees_and_vendors_are_refused_by_name() {
    let cases: [(usize, u8, QuoteError); 5] = [
        (0, 4, QuoteError::Version { version: 4 }),
        (0, 5, QuoteError::Version { version: 5 }),
        (2, 3, QuoteError::KeyType { key_type: 3 }),
        (4, 0x81, QuoteError::Tee { tee: 0x81 }),
        (12, 0, QuoteError::Vendor),
    ];
    for (at, value, error) in cases {
        let mut bytes = sample(b"", b"chain");
        bytes[at] = value;
        assert_eq!(Quote::parse(&bytes), Err(error));
    }
}

#[test]
fn signature_data_must_be_used_up() {
    let mut bytes = sample(b"", b"chain");
    bytes.push(0);
    let auth_len = u32::try_from(bytes.len() - 436).expect("small");
    bytes[432..436].copy_from_slice(&auth_len.to_le_bytes());
    assert_eq!(Quote::parse(&bytes), Err(QuoteError::Surplus { extra: 1 }));
}

#[test]
fn certification_data_has_the_size_of_its_type() {
    for (kind, len) in [(1, 36), (2, 276), (3, 404)] {
        let bytes = certified(kind, &vec![9; len]);
        let quote = Quote::parse(&bytes).expect("right size");
        let Certification::Platform(id) = quote.certification else {
            panic!("type {kind} is a platform identifier");
        };
        assert_eq!((id.kind, id.pce_id), (kind, 0x0909));
        for wrong in [0, len - 1, len + 1] {
            assert_eq!(
                Quote::parse(&certified(kind, &vec![9; wrong])),
                Err(QuoteError::CertificationSize { kind, len: wrong })
            );
        }
    }
    assert!(matches!(
        Quote::parse(&certified(4, b"leaf")).map(|quote| quote.certification),
        Ok(Certification::Leaf(b"leaf"))
    ));
    for kind in [4, 5] {
        assert_eq!(
            Quote::parse(&certified(kind, b"")),
            Err(QuoteError::CertificationSize { kind, len: 0 })
        );
    }
    for kind in [0, 6, 7, 0xffff] {
        assert_eq!(
            Quote::parse(&certified(kind, b"data")),
            Err(QuoteError::CertificationType { kind })
        );
    }
}

#[test]
fn huge_inputs_and_outputs_are_refused() {
    let bytes = vec![0; MAX_QUOTE + 1];
    assert!(matches!(
        Quote::parse(&bytes),
        Err(QuoteError::TooLong { .. })
    ));
    let report = ReportBody::from_bytes(&[1; 384]);
    let parts = QuoteParts {
        signed: &QuoteParts::signed(&header(), &report),
        signature: &[2; 64],
        attestation_key: &[3; 64],
        qe_report: &report,
        qe_report_signature: &[5; 64],
        qe_auth_data: b"",
        chain_pem: &bytes,
    };
    assert!(matches!(parts.encode(), Err(QuoteError::TooLong { .. })));
}

#[test]
fn debug_output_hides_the_ppid() {
    let bytes = certified(1, &[0xaa; 36]);
    let quote = Quote::parse(&bytes).expect("right size");
    let printed = alloc::format!("{:?}", quote.certification);
    assert!(!printed.contains("170"), "{printed}");
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
        let _ = Quote::parse(&bytes);
    }

    #[test]
    fn changed_quotes_never_panic(at in 0usize..1047, value: u8, cut in 0usize..1047) {
        let mut bytes = sample(b"auth", b"chain-of-certificates");
        let len = bytes.len();
        bytes[at % len] = value;
        let _ = Quote::parse(&bytes);
        let _ = Quote::parse(&bytes[..cut % len]);
    }

    #[test]
    fn any_parts_round_trip(
        auth in proptest::collection::vec(any::<u8>(), 0..200),
        chain in proptest::collection::vec(any::<u8>(), 1..5000),
    ) {
        let bytes = sample(&auth, &chain);
        let quote = Quote::parse(&bytes).expect("own output");
        prop_assert_eq!(quote.qe_auth_data, &auth[..]);
        prop_assert_eq!(quote.certification, Certification::Chain(&chain));
    }
}
