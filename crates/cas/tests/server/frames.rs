// SPDX-License-Identifier: Apache-2.0
//! What a hostile peer sends to the attested port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use attest::channel::codec::{MAX_EVIDENCE, MAX_FRAME, MAX_HELLO, read_frame, write_frame};
use attest::channel::encoding::{Bytes, SecretText};
use attest::channel::frame::{
    Claims, ClientFrame, Evidence, EvidenceKind, Hello, RefusalCode, Renew, Role, ServerFrame,
};
use attest::channel::tls::client_config;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, StreamOwned};

use crate::machine::{Machine, attest, dial, enclave, session};
use crate::support::{Cas, identity};

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn tls_with(cas: &Cas, config: ClientConfig) -> Result<Tls, std::io::Error> {
    let stream = dial(cas);
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    let name = "localhost".try_into().expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut tls = StreamOwned::new(connection, stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

fn tls(cas: &Cas) -> Tls {
    let (config, _) = client_config(Some(*cas.key.as_bytes())).expect("a configuration");
    tls_with(cas, config).expect("a handshake")
}

fn hello(config_id: &str) -> Hello {
    Hello {
        protocol: 1,
        config_id: config_id.to_owned(),
        role: Role::Service,
        otp: None,
        token_proof: None,
    }
}

/// The CAS closes without an answer.
fn closed(tls: &mut Tls) -> bool {
    let mut rest = Vec::new();
    // A reset after unread data is a closing as well.
    let _ = tls.read_to_end(&mut rest);
    rest.is_empty()
}

fn started(dir: &tempfile::TempDir) -> (Machine, Cas) {
    let machine = Machine::new(dir.path());
    let cas = machine.cas(dir.path());
    let tolerance = format!("\"{}\"", machine.tolerance());
    cas.client(&identity())
        .upload(&session("s", &[&tolerance], ""))
        .expect("an upload");
    (machine, cas)
}

#[test]
fn bad_frames_end_the_connection_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, cas) = started(&dir);
    let too_long = u32::try_from(MAX_HELLO + 1).unwrap().to_le_bytes();
    let frame = |json: &str| {
        let mut bytes = u32::try_from(json.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes
    };
    for bytes in [
        too_long.to_vec(),
        u32::MAX.to_le_bytes().to_vec(),
        vec![0; 4],
        frame("{"),
        frame("null"),
        frame(&"[".repeat(4000)),
        frame(r#"{"frame":"hello","protocol":1,"config_id":"s/api","role":"service","more":1}"#),
        frame(r#"{"frame":"hello","protocol":1,"config_id":"s/api","role":"witness"}"#),
        frame(r#"{"frame":"unknown","protocol":1}"#),
        frame("\u{1}\u{2}"),
    ] {
        let mut tls = tls(&cas);
        tls.write_all(&bytes).unwrap();
        tls.flush().unwrap();
        assert!(closed(&mut tls), "{bytes:?} was answered");
    }
    // Out of order, and a second frame that is too long.
    let mut early = tls(&cas);
    write_frame(&mut early, &ClientFrame::Renew(Renew {})).unwrap();
    assert!(closed(&mut early));
    let mut long = tls(&cas);
    write_frame(&mut long, &ClientFrame::Hello(hello("s/api"))).unwrap();
    assert!(matches!(
        read_frame(&mut long, MAX_FRAME),
        Ok(ServerFrame::Challenge(_))
    ));
    let evidence = Evidence {
        kind: EvidenceKind::SgxDcap,
        quote: Bytes(vec![0; MAX_EVIDENCE]),
        claims: Claims::default(),
    };
    // The CAS closes while this is being sent, so sending may fail.
    let _ = write_frame(&mut long, &ClientFrame::Evidence(evidence));
    assert!(closed(&mut long));
    // Plain text where TLS is due.
    let mut plain = dial(&cas);
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest);
    let own = enclave(&cas.key, "s", "api");
    attest(&cas, &mut machine, "s/api", &own).unwrap();
}

#[test]
fn each_refusal_has_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let (_machine, cas) = started(&dir);
    let version = Hello {
        protocol: 2,
        ..hello("s/api")
    };
    let otp = Hello {
        otp: Some(SecretText::from("123456")),
        ..hello("s/api")
    };
    for (hello, expected) in [
        (hello("nothing/api"), RefusalCode::UnknownService),
        (hello("s/other"), RefusalCode::UnknownService),
        (hello("s"), RefusalCode::UnknownService),
        (hello("s/api@123456"), RefusalCode::UnknownService),
        (hello("../\u{7f}\n"), RefusalCode::UnknownService),
        (version, RefusalCode::Version),
        (otp, RefusalCode::SecondFactor),
    ] {
        let mut tls = tls(&cas);
        write_frame(&mut tls, &ClientFrame::Hello(hello)).unwrap();
        match read_frame(&mut tls, MAX_FRAME).unwrap() {
            ServerFrame::Refused(refused) => assert_eq!(refused.code, expected),
            other => panic!("{other:?}"),
        }
        assert!(closed(&mut tls));
    }
    // Nonsense instead of a quote.
    let mut tls = tls(&cas);
    write_frame(&mut tls, &ClientFrame::Hello(hello("s/api"))).unwrap();
    read_frame::<ServerFrame>(&mut tls, MAX_FRAME).unwrap();
    let evidence = Evidence {
        kind: EvidenceKind::SgxDcap,
        quote: Bytes(vec![3; 500]),
        claims: Claims {
            collateral: Some("{".to_owned()),
        },
    };
    write_frame(&mut tls, &ClientFrame::Evidence(evidence)).unwrap();
    let ServerFrame::Refused(refused) = read_frame(&mut tls, MAX_FRAME).unwrap() else {
        panic!("not refused");
    };
    assert_eq!(refused.code, RefusalCode::AttestationRefused);
    // What was asked for stands escaped in the audit log: one line per event.
    assert!(cas.audit().iter().any(|e| e["service"] == "../\\u{7f}\\n"));
}

#[test]
fn one_address_waits_with_sixteen_challenges_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, cas) = started(&dir);
    let mut waiting = Vec::new();
    for _ in 0..16 {
        let mut tls = tls(&cas);
        write_frame(&mut tls, &ClientFrame::Hello(hello("s/api"))).unwrap();
        assert!(matches!(
            read_frame(&mut tls, MAX_FRAME),
            Ok(ServerFrame::Challenge(_))
        ));
        waiting.push(tls);
    }
    let mut one_more = tls(&cas);
    write_frame(&mut one_more, &ClientFrame::Hello(hello("s/api"))).unwrap();
    let ServerFrame::Refused(refused) = read_frame(&mut one_more, MAX_FRAME).unwrap() else {
        panic!("not refused");
    };
    assert_eq!(
        (refused.code, refused.retry_after_s),
        (RefusalCode::RateLimited, Some(1))
    );
    drop(waiting);
    let own = enclave(&cas.key, "s", "api");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while attest(&cas, &mut machine, "s/api", &own).is_err() {
        assert!(
            std::time::Instant::now() < deadline,
            "the challenges are not given back"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn only_tls_1_3_with_the_protocol_name_and_a_certificate_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (_machine, cas) = started(&dir);
    let served = |config: ClientConfig| {
        let Ok(mut tls) = tls_with(&cas, config) else {
            return false;
        };
        write_frame(&mut tls, &ClientFrame::Hello(hello("s/api"))).is_ok()
            && matches!(
                read_frame(&mut tls, MAX_FRAME),
                Ok(ServerFrame::Challenge(_))
            )
    };
    let genuine = || client_config(Some(*cas.key.as_bytes())).unwrap().0;
    assert!(served(genuine()));
    let mut other = genuine();
    other.alpn_protocols = vec![b"h2".to_vec()];
    assert!(!served(other));
    let mut none = genuine();
    none.alpn_protocols.clear();
    assert!(!served(none));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let chain = cas.anonymous().attest().unwrap().chain;
    use rustls_pki_types::pem::PemObject as _;
    for certificate in rustls_pki_types::CertificateDer::pem_slice_iter(chain.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let trusting = |version| {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone());
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"ensconce-attest/1".to_vec()];
        config
    };
    assert!(!served(trusting(&rustls::version::TLS12)));
    assert!(
        !served(trusting(&rustls::version::TLS13)),
        "without a certificate"
    );
}

#[test]
fn no_ticket_is_ever_offered() {
    let dir = tempfile::tempdir().unwrap();
    let (_machine, cas) = started(&dir);
    let mut config = client_config(Some(*cas.key.as_bytes())).unwrap().0;
    // A client that would resume.
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..2 {
        let stream = dial(&cas);
        let name = "localhost".try_into().unwrap();
        let mut connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
        assert!(connection.early_data().is_none());
        let mut tls = {
            let mut stream = stream;
            while connection.is_handshaking() {
                connection.complete_io(&mut stream).unwrap();
            }
            StreamOwned::new(connection, stream)
        };
        write_frame(&mut tls, &ClientFrame::Hello(hello("s/api"))).unwrap();
        read_frame::<ServerFrame>(&mut tls, MAX_FRAME).unwrap();
        assert_eq!(tls.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(tls.conn.tls13_tickets_received(), 0);
        assert_eq!(tls.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}
