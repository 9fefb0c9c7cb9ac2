// SPDX-License-Identifier: Apache-2.0
//! The attested channel over real sockets: rustls at both ends.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use attest::channel::binding::{
    Binding, TokenSide, agent_domain, check_token_proof, config_id, is_agent_form, is_program_form,
    report_data, sha256, split_config_id, token_proof,
};
use attest::channel::client::{ClientError, Connect, EvidenceRequest, Session};
use attest::channel::codec::{MAX_EVIDENCE, MAX_FRAME, MAX_HELLO, read_frame, write_frame};
use attest::channel::config::{Config, Freshness, Head, LogLevel};
use attest::channel::encoding::{Bytes, Fixed};
use attest::channel::frame::{
    Ack, Challenge, Claims, ClientFrame, Evidence, EvidenceKind, Exit, Lease, RefusalCode, Refused,
    Role, ServerFrame, Tag,
};
use attest::channel::tls::{peer_of, server_config, spki_of};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

struct Cas {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    root_pin: [u8; 32],
}

fn cas() -> Cas {
    let root_key = KeyPair::generate().expect("key");
    let mut root = CertificateParams::new(Vec::new()).expect("params");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_cert = root.self_signed(&root_key).expect("root");
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().expect("key");
    let leaf = CertificateParams::new(vec!["cas.example".to_owned()])
        .expect("params")
        .signed_by(&key, &issuer)
        .expect("leaf");
    Cas {
        root_pin: sha256(&spki_of(root_cert.der()).expect("DER")),
        chain: vec![leaf.der().clone(), root_cert.der().clone()],
        key: key.serialize_der(),
    }
}

fn private(key: &[u8]) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.to_vec()).expect("PKCS#8")
}

fn config(root: [u8; 32]) -> Config {
    Config {
        argv: vec!["/bin/true".into()],
        env: Vec::new(),
        cwd: "/".to_owned(),
        root: None,
        volumes: Vec::new(),
        files: Vec::new(),
        log: LogLevel::Error,
        head: Head {
            epoch: 1,
            seq: 1,
            root: Fixed([0; 32]),
            freshness: Freshness::Degraded,
        },
        dev: true,
        cas_root_spki: Fixed(root),
    }
}

type ServerTls = StreamOwned<ServerConnection, TcpStream>;

/// Serves one connection with `script` after the handshake.
fn serve<R: Send + 'static>(
    tls: rustls::ServerConfig,
    script: impl FnOnce(&mut ServerTls) -> R + Send + 'static,
) -> (TcpStream, thread::JoinHandle<Option<R>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = listener.local_addr().expect("address");
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("client");
        let connection = ServerConnection::new(Arc::new(tls)).expect("connection");
        let mut tls = StreamOwned::new(connection, stream);
        while tls.conn.is_handshaking() {
            if tls.conn.complete_io(&mut tls.sock).is_err() {
                return None;
            }
        }
        Some(script(&mut tls))
    });
    (TcpStream::connect(address).expect("server"), server)
}

fn ask(cas: &Cas) -> Connect<'static> {
    Connect {
        server_name: "anything.example",
        pin: Some(cas.root_pin),
        config_id: "acme/shop/web",
        otp: None,
        token: None,
    }
}

fn evidence_of(request: &EvidenceRequest) -> Result<Evidence, std::io::Error> {
    Ok(Evidence {
        kind: EvidenceKind::SgxDcap,
        quote: Bytes(request.report_data.to_vec()),
        claims: Claims::default(),
    })
}

fn challenge() -> Challenge {
    Challenge {
        nonce: Fixed([7; 32]),
        accepts: vec![EvidenceKind::SgxDcap],
        singleton: None,
        token_proof: None,
    }
}

#[test]
fn evidence_covers_the_connection_and_the_configuration_arrives() {
    let cas = cas();
    let tls = server_config(cas.chain.clone(), private(&cas.key)).expect("config");
    let own_leaf = spki_of(&cas.chain[0]).expect("DER");
    let pin = cas.root_pin;
    let (stream, server) = serve(tls, move |tls| {
        let peer = peer_of(&tls.conn).expect("TLS 1.3 with ALPN");
        let ClientFrame::Hello(hello) = read_frame(tls, MAX_HELLO).expect("hello") else {
            panic!("no hello");
        };
        assert_eq!(hello.config_id, "acme/shop/web");
        write_frame(tls, &ServerFrame::Challenge(challenge())).expect("challenge");
        let ClientFrame::Evidence(evidence) = read_frame(tls, MAX_EVIDENCE).expect("evidence")
        else {
            panic!("no evidence");
        };
        let expected = report_data(&Binding {
            role: Role::Service,
            version: 1,
            config_id: &hello.config_id,
            own_spki: &peer.leaf_spki,
            peer_leaf_spki: &own_leaf,
            nonce: &[7; 32],
            exporter: &peer.exporter,
        });
        assert_eq!(evidence.quote.0, expected);
        write_frame(tls, &ServerFrame::Config(Box::new(config(pin)))).expect("config");
        let ClientFrame::Tag(tag) = read_frame(tls, MAX_FRAME).expect("tag") else {
            panic!("no tag");
        };
        write_frame(tls, &ServerFrame::Lease(Lease { lease_s: 5 })).expect("pushed lease");
        let ack = Ack {
            seq: tag.epoch,
            signature: Bytes(vec![1]),
        };
        write_frame(tls, &ServerFrame::Ack(ack)).expect("ack");
        assert!(matches!(
            read_frame(tls, MAX_FRAME),
            Ok(ClientFrame::Renew(_))
        ));
        write_frame(tls, &ServerFrame::Lease(Lease { lease_s: 60 })).expect("lease");
        read_frame::<ClientFrame>(tls, MAX_FRAME).expect("exit")
    });
    let mut seen = None;
    let (received, mut session) = Session::connect(stream, &ask(&cas), |request| {
        seen = Some(*request);
        evidence_of(request)
    })
    .expect("configuration");
    let request = seen.expect("evidence was asked for");
    assert_eq!(request.cas_root_spki, cas.root_pin);
    assert!(is_agent_form(&request.report_data));
    assert_eq!(received, config(cas.root_pin));
    let tag = Tag {
        volume: "v".to_owned(),
        epoch: 3,
        old: Fixed([0; 16]),
        new: Fixed([1; 16]),
    };
    assert_eq!(session.send_tag(tag).expect("receipt").seq, 3);
    assert_eq!(session.renew().expect("lease").lease_s, 60);
    let exit = Exit {
        code: 3,
        signal: None,
    };
    session.send_exit(exit).expect("exit");
    assert_eq!(
        server.join().expect("server"),
        Some(ClientFrame::Exit(exit))
    );
}

#[test]
fn another_root_key_than_the_pinned_one_is_refused() {
    let genuine = cas();
    let impostor = cas();
    let tls = server_config(impostor.chain.clone(), private(&impostor.key)).expect("config");
    let (stream, server) = serve(tls, |_| ());
    let result = Session::connect(stream, &ask(&genuine), evidence_of);
    assert!(
        matches!(result, Err(ClientError::Handshake(_))),
        "{result:?}"
    );
    drop(result);
    let _ = server.join();
}

#[test]
fn a_leaf_that_the_pinned_root_did_not_sign_is_refused() {
    let genuine = cas();
    let impostor = cas();
    // The impostor presents its own leaf and the genuine root.
    let chain = vec![impostor.chain[0].clone(), genuine.chain[1].clone()];
    let tls = server_config(chain, private(&impostor.key)).expect("config");
    let (stream, server) = serve(tls, |_| ());
    let result = Session::connect(stream, &ask(&genuine), evidence_of);
    assert!(
        matches!(result, Err(ClientError::Handshake(_))),
        "{result:?}"
    );
    drop(result);
    let _ = server.join();
}

#[test]
fn a_server_of_tls_1_2_is_refused() {
    let cas = cas();
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS12])
    .expect("versions")
    .with_no_client_auth()
    .with_single_cert(cas.chain.clone(), private(&cas.key))
    .expect("certificate");
    let (stream, server) = serve(tls, |_| ());
    let result = Session::connect(stream, &ask(&cas), evidence_of);
    assert!(
        matches!(result, Err(ClientError::Handshake(_))),
        "{result:?}"
    );
    drop(result);
    let _ = server.join();
}

#[test]
fn a_server_without_the_protocol_name_is_refused() {
    let cas = cas();
    let mut tls = server_config(cas.chain.clone(), private(&cas.key)).expect("config");
    tls.alpn_protocols.clear();
    let (stream, server) = serve(tls, |_| ());
    let result = Session::connect(stream, &ask(&cas), evidence_of);
    assert!(matches!(result, Err(ClientError::Tls(_))), "{result:?}");
    drop(result);
    let _ = server.join();
}

#[test]
fn no_tickets_and_no_early_data_are_offered() {
    let cas = cas();
    let tls = server_config(cas.chain.clone(), private(&cas.key)).expect("config");
    assert_eq!(tls.send_tls13_tickets, 0);
    assert_eq!(tls.max_early_data_size, 0);
    assert!(!tls.session_storage.can_cache());
    assert!(!tls.ticketer.enabled());
    let (client, _) = attest::channel::tls::client_config(None).expect("config");
    assert!(!client.enable_early_data);
}

#[test]
fn a_refusal_carries_its_code() {
    let cas = cas();
    let tls = server_config(cas.chain.clone(), private(&cas.key)).expect("config");
    let (stream, server) = serve(tls, |tls| {
        let _: ClientFrame = read_frame(tls, MAX_HELLO).expect("hello");
        let refused = Refused {
            code: RefusalCode::UnknownService,
            retry_after_s: None,
        };
        write_frame(tls, &ServerFrame::Refused(refused)).expect("refusal");
    });
    let result = Session::connect(stream, &ask(&cas), evidence_of);
    assert!(
        matches!(
            result,
            Err(ClientError::Refused {
                code: RefusalCode::UnknownService,
                ..
            })
        ),
        "{result:?}"
    );
    server.join().expect("server");
}

#[test]
fn a_cas_that_cannot_prove_the_access_token_gets_no_evidence() {
    let cas = cas();
    let tls = server_config(cas.chain.clone(), private(&cas.key)).expect("config");
    let (stream, server) = serve(tls, |tls| {
        let peer = peer_of(&tls.conn).expect("peer");
        let ClientFrame::Hello(hello) = read_frame(tls, MAX_HELLO).expect("hello") else {
            panic!("no hello");
        };
        let proof = hello.token_proof.expect("proof");
        assert!(check_token_proof(
            TokenSide::Service,
            b"token",
            &peer.exporter,
            &proof.0
        ));
        // Reflects the service's own proof.
        let mut challenge = challenge();
        challenge.token_proof = Some(proof);
        write_frame(tls, &ServerFrame::Challenge(challenge)).expect("challenge");
        read_frame::<ClientFrame>(tls, MAX_FRAME).is_err()
    });
    let mut connect = ask(&cas);
    connect.token = Some("token".into());
    let result = Session::connect(stream, &connect, evidence_of);
    assert!(
        matches!(result, Err(ClientError::TokenNotProved)),
        "{result:?}"
    );
    drop(result);
    assert_eq!(server.join().expect("server"), Some(true));
}

#[test]
fn a_configuration_of_another_cas_is_refused() {
    let cas = cas();
    let tls = server_config(cas.chain.clone(), private(&cas.key)).expect("config");
    let (stream, server) = serve(tls, |tls| {
        let _: ClientFrame = read_frame(tls, MAX_HELLO).expect("hello");
        write_frame(tls, &ServerFrame::Challenge(challenge())).expect("challenge");
        let _: ClientFrame = read_frame(tls, MAX_EVIDENCE).expect("evidence");
        write_frame(tls, &ServerFrame::Config(Box::new(config([9; 32])))).expect("config");
    });
    let result = Session::connect(stream, &ask(&cas), evidence_of);
    assert!(
        matches!(result, Err(ClientError::ForeignRoot)),
        "{result:?}"
    );
    server.join().expect("server");
}

fn binding<'a>() -> Binding<'a> {
    Binding {
        role: Role::Service,
        version: 1,
        config_id: "acme/web",
        own_spki: b"own",
        peer_leaf_spki: b"peer",
        nonce: &[1; 32],
        exporter: &[2; 32],
    }
}

#[test]
fn every_field_changes_the_report_data() {
    let base = report_data(&binding());
    assert_ne!(agent_domain(), [0; 32]);
    assert!(is_agent_form(&base) && !is_program_form(&base));
    let variants = [
        Binding {
            version: 2,
            ..binding()
        },
        Binding {
            config_id: "acme/we",
            ..binding()
        },
        Binding {
            own_spki: b"ow",
            ..binding()
        },
        Binding {
            peer_leaf_spki: b"eer",
            ..binding()
        },
        Binding {
            nonce: &[3; 32],
            ..binding()
        },
        Binding {
            exporter: &[3; 32],
            ..binding()
        },
        // Reflection: the two keys swapped.
        Binding {
            own_spki: b"peer",
            peer_leaf_spki: b"own",
            ..binding()
        },
        // A boundary moved between neighbouring fields.
        Binding {
            config_id: "acme/webo",
            own_spki: b"wn",
            ..binding()
        },
    ];
    for variant in variants {
        assert_ne!(report_data(&variant), base, "{variant:?}");
    }
}

#[test]
fn report_data_is_the_documented_hash() {
    let mut message = Vec::new();
    let fields: [&[u8]; 7] = [
        b"service",
        &1u32.to_le_bytes(),
        b"acme/web",
        b"own",
        b"peer",
        &[1; 32],
        &[2; 32],
    ];
    for field in fields {
        message.extend_from_slice(&u64::try_from(field.len()).expect("small").to_le_bytes());
        message.extend_from_slice(field);
    }
    let data = report_data(&binding());
    assert_eq!(data[..32], sha256(&message));
    assert_eq!(data[32..], sha256(b"ensconce-agent-report-v1"));
}

#[test]
fn a_program_cannot_ask_for_the_agents_form() {
    let mut data = [0xff; 64];
    assert!(!is_program_form(&data) && !is_agent_form(&data));
    data[32..].fill(0);
    assert!(is_program_form(&data) && !is_agent_form(&data));
    for index in 32..64 {
        let mut one = data;
        one[index] = 1;
        assert!(!is_program_form(&one), "byte {index}");
    }
}

#[test]
fn config_ids_differ_by_cas_session_service_and_token() {
    let base = config_id(&[1; 32], "acme/shop", "web", None);
    assert_eq!(base[32..], [0; 32]);
    assert_ne!(base, config_id(&[2; 32], "acme/shop", "web", None));
    assert_ne!(base, config_id(&[1; 32], "acme/sho", "pweb", None));
    assert_ne!(base, config_id(&[1; 32], "acme", "shop/web", None));
    let token = config_id(&[1; 32], "acme/shop", "web", Some(&[5; 32]));
    assert_eq!(token[..32], base[..32]);
    assert_eq!(token[32..], [5; 32]);
}

#[test]
fn configuration_ids_split_at_the_last_slash() {
    assert_eq!(split_config_id("a/b/c"), Some(("a/b", "c")));
    for bad in ["", "a", "/a", "a/", "a\0b/c", "a/b\n"] {
        assert_eq!(split_config_id(bad), None, "{bad:?}");
    }
}

#[test]
fn token_proofs_are_bound_to_connection_and_side() {
    let proof = token_proof(TokenSide::Service, b"token", &[1; 32]);
    assert!(check_token_proof(
        TokenSide::Service,
        b"token",
        &[1; 32],
        &proof
    ));
    assert!(!check_token_proof(
        TokenSide::Service,
        b"token",
        &[2; 32],
        &proof
    ));
    assert!(!check_token_proof(
        TokenSide::Service,
        b"other",
        &[1; 32],
        &proof
    ));
    assert!(!check_token_proof(
        TokenSide::Cas,
        b"token",
        &[1; 32],
        &proof
    ));
}
