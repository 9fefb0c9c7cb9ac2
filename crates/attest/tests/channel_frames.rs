// SPDX-License-Identifier: Apache-2.0
//! The frames' JSON is a format: golden files pin it. Set `UPDATE_GOLDEN=1` to
//! rewrite them after a deliberate change of the protocol.

use std::fs;
use std::path::PathBuf;

use attest::channel::codec::{
    CodecError, MAX_FRAME, MAX_HELLO, PREFIX_LEN, decode, encode, payload_len, read_frame,
    write_frame,
};
use attest::channel::config::{
    Config, Freshness, Head, InjectionFile, LogLevel, Root, UpdatePolicy, Volume,
};
use attest::channel::encoding::{Bytes, Fixed, SecretBytes, SecretFixed};
use attest::channel::frame::{
    Ack, Challenge, Claims, ClientFrame, Evidence, EvidenceKind, Exit, Hello, Lease, RefusalCode,
    Refused, Renew, Role, ServerFrame, Tag,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

const MARKER: &str = "marker-secret-7f3a";

fn full_config() -> Config {
    Config {
        argv: vec!["/usr/bin/python3.11".into(), MARKER.into()],
        env: vec![
            ("PATH".to_owned(), "/usr/bin".into()),
            ("DB_PASSWORD".to_owned(), MARKER.into()),
        ],
        cwd: "/app".to_owned(),
        root: Some(Root {
            fspf_path: "/fspf/fs.fspf".to_owned(),
            key: SecretFixed::new([0x11; 32]),
            tag: Fixed([0x22; 16]),
        }),
        volumes: vec![Volume {
            name: "ledger".to_owned(),
            path: "/data".to_owned(),
            key: SecretFixed::new([0x33; 32]),
            tag: None,
            epoch: 7,
            lease_s: 60,
            policy: UpdatePolicy::RollbackProtected,
        }],
        files: vec![InjectionFile {
            path: "/etc/app/tls.pem".to_owned(),
            mode: 0o400,
            content: SecretBytes::new(MARKER.as_bytes().to_vec()),
        }],
        log: LogLevel::Error,
        head: Head {
            epoch: 1,
            seq: 42,
            root: Fixed([0x44; 32]),
            freshness: Freshness::Degraded,
        },
        dev: true,
        cas_root_spki: Fixed([0x55; 32]),
    }
}

fn client_frames() -> Vec<(&'static str, ClientFrame)> {
    vec![
        (
            "hello",
            ClientFrame::Hello(Hello {
                protocol: 1,
                config_id: "acme/shop/web".to_owned(),
                role: Role::Service,
                otp: None,
                token_proof: None,
            }),
        ),
        (
            "hello-second-factors",
            ClientFrame::Hello(Hello {
                protocol: 1,
                config_id: "acme/shop/web".to_owned(),
                role: Role::Service,
                otp: Some("123456".into()),
                token_proof: Some(Fixed([9; 32])),
            }),
        ),
        (
            "evidence",
            ClientFrame::Evidence(Evidence {
                kind: EvidenceKind::SgxDcap,
                quote: Bytes(vec![3, 0, 2, 0]),
                claims: Claims {
                    collateral: Some("{}".to_owned()),
                },
            }),
        ),
        (
            "tag",
            ClientFrame::Tag(Tag {
                volume: "ledger".to_owned(),
                epoch: 7,
                old: Fixed([1; 16]),
                new: Fixed([2; 16]),
            }),
        ),
        ("renew", ClientFrame::Renew(Renew {})),
        (
            "exit",
            ClientFrame::Exit(Exit {
                code: 143,
                signal: Some(15),
            }),
        ),
    ]
}

fn server_frames() -> Vec<(&'static str, ServerFrame)> {
    vec![
        (
            "challenge",
            ServerFrame::Challenge(Challenge {
                nonce: Fixed([7; 32]),
                accepts: vec![EvidenceKind::SgxDcap],
                singleton: Some(Fixed([8; 32])),
                token_proof: None,
            }),
        ),
        ("config", ServerFrame::Config(Box::new(full_config()))),
        (
            "refused",
            ServerFrame::Refused(Refused {
                code: RefusalCode::RateLimited,
                retry_after_s: Some(30),
            }),
        ),
        (
            "ack",
            ServerFrame::Ack(Ack {
                seq: 43,
                signature: Bytes(vec![1, 2, 3]),
            }),
        ),
        ("lease", ServerFrame::Lease(Lease { lease_s: 60 })),
    ]
}

fn check_golden<T>(name: &str, frame: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/channel")
        .join(format!("{name}.json"));
    let encoded = encode(frame).expect("the frame is small");
    let payload = encoded.get(PREFIX_LEN..).expect("a prefix");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, payload).expect("golden file is writable");
    }
    let golden = fs::read(&path).expect("golden file exists");
    assert_eq!(
        String::from_utf8_lossy(payload),
        String::from_utf8_lossy(&golden),
        "{name} changed"
    );
    assert_eq!(&decode::<T>(&golden).expect("golden file decodes"), frame);
}

#[test]
fn every_frame_equals_its_golden_file() {
    for (name, frame) in client_frames() {
        check_golden(name, &frame);
    }
    for (name, frame) in server_frames() {
        check_golden(name, &frame);
    }
}

#[test]
fn every_refusal_code_has_its_wire_name() {
    for code in [
        RefusalCode::UnknownService,
        RefusalCode::AttestationRefused,
        RefusalCode::SecondFactor,
        RefusalCode::VolumeLocked,
        RefusalCode::RateLimited,
        RefusalCode::NotReady,
        RefusalCode::Version,
    ] {
        let json = serde_json::to_string(&code).expect("a unit variant");
        assert_eq!(json, format!("\"{}\"", code.name()));
    }
}

#[test]
fn debug_output_of_a_configuration_holds_no_secret() {
    let printed = format!("{:?}", ServerFrame::Config(Box::new(full_config())));
    assert!(!printed.contains(MARKER), "{printed}");
    assert!(!printed.contains("17, 17"), "{printed}");
    assert!(!printed.contains("1111"), "{printed}");
    assert!(printed.contains("[redacted]"));
}

#[test]
fn decoding_errors_quote_nothing_of_the_input() {
    let broken = format!(r#"{{"frame":"config","argv":"{MARKER}","{MARKER}":1}}"#);
    let error = decode::<ServerFrame>(broken.as_bytes()).expect_err("argv is no list");
    assert!(!format!("{error} {error:?}").contains(MARKER));
    let broken = format!(r#"{{"frame":"evidence","kind":"{MARKER}"}}"#);
    let error = decode::<ClientFrame>(broken.as_bytes()).expect_err("unknown kind");
    assert!(!format!("{error} {error:?}").contains(MARKER));
}

#[test]
fn unknown_and_repeated_members_are_errors() {
    for text in [
        r#"{"frame":"renew","x":1}"#,
        r#"{"frame":"renew","frame":"renew"}"#,
        r#"{"frame":"exit","code":0,"code":1}"#,
        r#"{"frame":"exit","code":256}"#,
        r#"{"frame":"exit","code":0} "#,
        r#"{"frame":"exit","code":0}{}"#,
        r#"{"frame":"config"}"#,
        r#"{"code":0}"#,
        r#"[]"#,
        "",
    ] {
        let result = decode::<ClientFrame>(text.as_bytes());
        // Trailing white space is harmless JSON; everything else is refused.
        assert_eq!(result.is_ok(), text.ends_with(' '), "{text}: {result:?}");
    }
}

#[test]
fn fixed_values_of_another_length_are_refused() {
    for value in ["", "AA==", "AAAA", "not base64", "AAAAAAAAAAAAAAAAAAAAAA"] {
        let text =
            format!(r#"{{"frame":"tag","volume":"v","epoch":1,"old":"{value}","new":"{value}"}}"#);
        assert!(decode::<ClientFrame>(text.as_bytes()).is_err(), "{value}");
    }
}

#[test]
fn lengths_beyond_the_limit_are_refused_before_anything_is_allocated() {
    let announced = u32::try_from(MAX_HELLO + 1).expect("small").to_le_bytes();
    assert!(matches!(
        payload_len(announced, MAX_HELLO),
        Err(CodecError::TooLong { .. })
    ));
    assert!(matches!(
        payload_len(u32::MAX.to_le_bytes(), usize::MAX),
        Err(CodecError::TooLong {
            limit: MAX_FRAME,
            ..
        })
    ));
    assert!(matches!(payload_len([0; 4], 10), Err(CodecError::Empty)));
    let mut stream: &[u8] = &[0xff, 0xff, 0xff, 0x7f, b'{'];
    assert!(matches!(
        read_frame::<ClientFrame>(&mut stream, MAX_HELLO),
        Err(CodecError::TooLong { .. })
    ));
}

#[test]
fn a_cut_stream_is_told_apart_from_a_closed_one() {
    let mut whole = Vec::new();
    write_frame(&mut whole, &ClientFrame::Renew(Renew {})).expect("memory");
    let mut empty: &[u8] = &[];
    assert!(matches!(
        read_frame::<ClientFrame>(&mut empty, MAX_FRAME),
        Err(CodecError::Closed)
    ));
    for len in 1..whole.len() {
        let mut cut = &whole[..len];
        assert!(
            matches!(
                read_frame::<ClientFrame>(&mut cut, MAX_FRAME),
                Err(CodecError::Io(_))
            ),
            "{len}"
        );
    }
}

#[test]
fn frames_above_the_limit_are_not_sent() {
    let frame = ClientFrame::Evidence(Evidence {
        kind: EvidenceKind::SgxDcap,
        quote: Bytes(vec![0; MAX_FRAME]),
        claims: Claims::default(),
    });
    assert!(matches!(encode(&frame), Err(CodecError::TooLong { .. })));
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode::<ClientFrame>(&bytes);
        let _ = decode::<ServerFrame>(&bytes);
    }

    #[test]
    fn mutated_frames_never_panic(index in 0usize..11, position in any::<prop::sample::Index>(), byte: u8) {
        let mut texts: Vec<Vec<u8>> = client_frames()
            .iter()
            .map(|(_, frame)| encode(frame).expect("small")[PREFIX_LEN..].to_vec())
            .collect();
        texts.extend(
            server_frames()
                .iter()
                .map(|(_, frame)| encode(frame).expect("small")[PREFIX_LEN..].to_vec()),
        );
        let text = &mut texts[index];
        let at = position.index(text.len());
        text[at] = byte;
        let _ = decode::<ClientFrame>(text);
        let _ = decode::<ServerFrame>(text);
    }

    #[test]
    fn configurations_survive_the_wire(
        argv in proptest::collection::vec(".*", 0..5),
        env in proptest::collection::vec(("[A-Z]+", ".*"), 0..5),
        content in proptest::collection::vec(any::<u8>(), 0..9000),
    ) {
        let mut config = full_config();
        config.argv = argv.iter().map(|text| text.as_str().into()).collect();
        config.env = env.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        config.files[0].content = SecretBytes::new(content);
        let frame = ServerFrame::Config(Box::new(config));
        let bytes = encode(&frame).expect("small");
        let back: ServerFrame = read_frame(&mut &bytes[..], MAX_FRAME).expect("own output");
        prop_assert_eq!(back, frame);
    }
}
