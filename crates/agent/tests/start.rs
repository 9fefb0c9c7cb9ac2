// SPDX-License-Identifier: Apache-2.0
//! The agent against a real local attestation service and a CAS that verifies
//! its evidence over a real attested channel. Only the kernel is replaced: its
//! REPORTs come from the emulated CPU, its other files are recorded.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use agent::control::{Control, Ended};
use agent::run::run;
use anyhow::{Result, bail};
use attest::anchor::Anchor;
use attest::channel::binding::{Binding, config_id, report_data, sha256};
use attest::channel::codec::{MAX_EVIDENCE, MAX_FRAME, MAX_HELLO, read_frame, write_frame};
use attest::channel::config::{Config, Freshness, Head, InjectionFile, LogLevel, Root};
use attest::channel::encoding::{Fixed, SecretBytes, SecretFixed};
use attest::channel::frame::{
    Challenge, ClientFrame, EvidenceKind, Exit, RefusalCode, Refused, Role, ServerFrame,
};
use attest::channel::tls::{peer_of, server_config, spki_of};
use attest::collateral::Collateral;
use attest::dcap::verify;
use attest::las::{Address, Client};
use attest::time::UnixTime;
use attest::verdict::{Tolerances, appraise};
use enclave_abi::las::{Answer, Base64, Request, SecsIdentity};
use enclave_abi::manifest::{Dlopen, Manifest, ProgramConfig, StartMode};
use enclave_abi::start::{Inject, Mount, StartBlock};
use las::platform::Platform;
use las::service::{Options, Service, serve};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sgx::report::{Report, TargetInfo};

const CONFIG_ID: &str = "acme/shop/web";
const MARKER: &str = "marker-secret-1b7c";

/// A local attestation service with its own platform.
struct Las {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    anchor: Anchor,
}

fn start_las() -> Las {
    let dir = tempfile::tempdir().expect("directory");
    let now = UnixTime::from_system();
    let platform = Platform::init(&dir.path().join("platform"), now).expect("a platform");
    let anchor = platform.anchor().expect("its anchor");
    let service = Service::new(platform, now).expect("a service");
    let options = Options {
        socket: dir.path().join("las.sock"),
        mode: 0o600,
        tcp: None,
        insecure_public: false,
    };
    let running = serve(Arc::new(service), &options).expect("listens");
    Las {
        socket: running.socket,
        _dir: dir,
        anchor,
    }
}

/// What the CAS saw and how the conversation ended.
#[derive(Debug, PartialEq)]
enum Seen {
    Exit(Exit),
    NoEvidence,
}

struct Cas {
    address: String,
    root: [u8; 32],
    thread: JoinHandle<Seen>,
}

/// A CAS that serves one agent: verifies the evidence for real, then answers
/// with what `answer` makes of the CAS root's hash.
fn start_cas(anchor: Anchor, answer: impl FnOnce([u8; 32]) -> ServerFrame + Send + 'static) -> Cas {
    let root_key = KeyPair::generate().expect("key");
    let mut root = CertificateParams::new(Vec::new()).expect("params");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).expect("root");
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().expect("key");
    let leaf = CertificateParams::new(vec!["cas".to_owned()])
        .expect("params")
        .signed_by(&key, &issuer)
        .expect("leaf");
    let root = sha256(&spki_of(root_certificate.der()).expect("DER"));
    let chain: Vec<CertificateDer<'static>> =
        vec![leaf.der().clone(), root_certificate.der().clone()];
    let own_leaf = spki_of(leaf.der()).expect("DER");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS#8");
    let tls = server_config(chain, key).expect("TLS");

    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = listener.local_addr().expect("address").to_string();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("agent");
        let connection = ServerConnection::new(Arc::new(tls)).expect("connection");
        let mut tls = StreamOwned::new(connection, stream);
        let ClientFrame::Hello(hello) = (match read_frame(&mut tls, MAX_HELLO) {
            Ok(frame) => frame,
            Err(_) => return Seen::NoEvidence,
        }) else {
            panic!("no hello");
        };
        let peer = peer_of(&tls.conn).expect("peer");
        let challenge = Challenge {
            nonce: Fixed([5; 32]),
            accepts: vec![EvidenceKind::SgxDcap],
            singleton: None,
            token_proof: None,
        };
        write_frame(&mut tls, &ServerFrame::Challenge(challenge)).expect("challenge");
        let Ok(ClientFrame::Evidence(evidence)) = read_frame(&mut tls, MAX_EVIDENCE) else {
            return Seen::NoEvidence;
        };
        let bundle = evidence
            .claims
            .collateral
            .expect("collateral of the service");
        let collateral = Collateral::from_json(bundle.as_bytes()).expect("a bundle");
        let verified = verify(
            &evidence.quote.0,
            &collateral,
            std::slice::from_ref(&anchor),
            UnixTime::from_system(),
        )
        .expect("verified evidence");
        let line = anchor.platform().to_string();
        let tolerances = Tolerances::from_entries([line.as_str()], []).expect("an entry");
        assert!(appraise(&verified, &tolerances).is_accepted());
        assert_eq!(
            verified.report.report_data(),
            report_data(&Binding {
                role: Role::Service,
                version: 1,
                config_id: &hello.config_id,
                own_spki: &peer.leaf_spki,
                peer_leaf_spki: &own_leaf,
                nonce: &[5; 32],
                exporter: &peer.exporter,
            })
        );
        assert_eq!(
            verified.report.config_id(),
            config_id(&root, "acme/shop", "web", None)
        );
        write_frame(&mut tls, &answer(root)).expect("answer");
        match read_frame(&mut tls, MAX_FRAME) {
            Ok(ClientFrame::Exit(exit)) => Seen::Exit(exit),
            _ => Seen::NoEvidence,
        }
    });
    Cas {
        address,
        root,
        thread,
    }
}

/// A kernel: REPORTs of the emulated CPU, everything else is recorded.
struct Enclave {
    las: PathBuf,
    config_id: [u8; 64],
    block: StartBlock,
    manifest: Manifest,
    mounted: Option<Mount>,
    injected: Vec<Inject>,
    program: Option<ProgramConfig>,
    log: Vec<&'static str>,
    ends: Ended,
    mount_fails: bool,
}

impl Control for Enclave {
    fn start_block(&mut self) -> Result<StartBlock> {
        Ok(StartBlock::decode(&self.block.encode())?)
    }

    fn manifest(&mut self) -> Result<Manifest> {
        Ok(Manifest::decode(&self.manifest.encode())?)
    }

    fn report(&mut self, report_data: &[u8; 64], target: &TargetInfo) -> Result<Report> {
        let mut attributes = 0x85_u64.to_le_bytes().to_vec();
        attributes.extend_from_slice(&7_u64.to_le_bytes());
        let request = Request::Ereport {
            targetinfo: Base64(target.to_bytes().to_vec()),
            reportdata: Base64(report_data.to_vec()),
            secs: SecsIdentity {
                attributes: Base64(attributes),
                miscselect: 1,
                mrenclave: Base64(vec![1; 32]),
                mrsigner: Base64(vec![2; 32]),
                config_id: Base64(self.config_id.to_vec()),
                isv_prod_id: 0,
                isv_svn: 0,
                config_svn: 0,
                isv_ext_prod_id: Base64(vec![0; 16]),
                isv_family_id: Base64(vec![0; 16]),
            },
        };
        let mut cpu = Client::connect(&Address::Unix(self.las.clone()))?;
        let Answer::Ereport { report } = cpu.ask(&request)? else {
            bail!("no REPORT");
        };
        Ok(Report::from_bytes(report.0.as_slice().try_into()?))
    }

    fn mount(&mut self, mount: &Mount) -> Result<()> {
        self.log.push("mount");
        if self.mount_fails {
            bail!("tag differs");
        }
        self.mounted = Some(Mount::decode(&mount.encode())?);
        Ok(())
    }

    fn inject(&mut self, file: &Inject) -> Result<()> {
        self.log.push("inject");
        self.injected.push(Inject::decode(&file.encode())?);
        Ok(())
    }

    fn configure(&mut self, config: &ProgramConfig) -> Result<()> {
        self.log.push("config");
        self.program = Some(config.clone());
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        self.log.push("start");
        Ok(())
    }

    fn wait(&mut self) -> Result<Ended> {
        self.log.push("wait");
        Ok(self.ends)
    }
}

fn enclave(las: &Las, cas: &Cas, pinned: bool) -> Enclave {
    Enclave {
        las: las.socket.clone(),
        config_id: config_id(&cas.root, "acme/shop", "web", None),
        block: StartBlock {
            config_id: CONFIG_ID.to_owned(),
            cas_addr: cas.address.clone(),
            las_addr: format!("unix:{}", las.socket.display()),
            argv: ["host-name", "host-argument"]
                .map(|text| text.as_bytes().to_vec())
                .to_vec(),
            env: vec![b"LD_PRELOAD=/evil.so".to_vec()],
            ..StartBlock::default()
        },
        manifest: Manifest {
            start_mode: StartMode::Session,
            heap: 1 << 26,
            stack: 1 << 20,
            threads: 8,
            dlopen: Dlopen::None,
            fork: false,
            program: b"/bin/service".to_vec(),
            agent: b"/ensconce/agent".to_vec(),
            regions: Vec::new(),
            cas_pin: pinned.then_some(cas.root),
            standalone: None,
        },
        mounted: None,
        injected: Vec::new(),
        program: None,
        log: Vec::new(),
        ends: Ended::Code(3),
        mount_fails: false,
    }
}

fn config(root: [u8; 32]) -> Config {
    Config {
        argv: vec!["/bin/service".into(), MARKER.into(), "@@1".into()],
        env: vec![("PASSWORD".to_owned(), MARKER.into())],
        cwd: "/app".to_owned(),
        root: Some(Root {
            fspf_path: "/fspf/fs.fspf".to_owned(),
            key: SecretFixed::new([0x11; 32]),
            tag: Fixed([0x22; 16]),
        }),
        volumes: Vec::new(),
        files: vec![InjectionFile {
            path: "/etc/secret".to_owned(),
            mode: 0o400,
            content: SecretBytes::new(MARKER.as_bytes().to_vec()),
        }],
        log: LogLevel::Error,
        head: Head {
            epoch: 1,
            seq: 1,
            root: Fixed([0; 32]),
            freshness: Freshness::Degraded,
        },
        dev: false,
        cas_root_spki: Fixed(root),
    }
}

fn configured(root: [u8; 32]) -> ServerFrame {
    ServerFrame::Config(Box::new(config(root)))
}

#[test]
fn an_attested_enclave_starts_its_program_and_reports_its_end() {
    for pinned in [true, false] {
        let las = start_las();
        let cas = start_cas(las.anchor.clone(), configured);
        let mut enclave = enclave(&las, &cas, pinned);
        assert_eq!(run(&mut enclave).expect("runs"), 3);
        assert_eq!(enclave.log, ["mount", "inject", "config", "start", "wait"]);
        let mount = enclave.mounted.expect("mounted");
        assert_eq!((mount.key, mount.tag), ([0x11; 32], [0x22; 16]));
        assert_eq!(enclave.injected[0].content, MARKER.as_bytes());
        let program = enclave.program.expect("configured");
        assert_eq!(program.argv[1], MARKER.as_bytes());
        assert_eq!(program.argv[2], b"host-argument");
        assert_eq!(program.env, [format!("PASSWORD={MARKER}").into_bytes()]);
        assert_eq!(program.cwd, b"/app");
        let exit = Exit {
            code: 3,
            signal: None,
        };
        assert_eq!(cas.thread.join().expect("CAS"), Seen::Exit(exit));
    }
}

#[test]
fn a_killed_programs_signal_is_reported() {
    let las = start_las();
    let cas = start_cas(las.anchor.clone(), configured);
    let mut enclave = enclave(&las, &cas, true);
    enclave.ends = Ended::Signal(15);
    assert_eq!(run(&mut enclave).expect("runs"), 143);
    let exit = Exit {
        code: 143,
        signal: Some(15),
    };
    assert_eq!(cas.thread.join().expect("CAS"), Seen::Exit(exit));
}

#[test]
fn an_enclave_made_for_another_cas_or_service_sends_no_evidence() {
    let other: [fn(&Cas) -> [u8; 64]; 4] = [
        |_| config_id(&[9; 32], "acme/shop", "web", None),
        |cas| config_id(&cas.root, "mallory", "web", None),
        |cas| config_id(&cas.root, "acme/shop", "other", None),
        |cas| config_id(&cas.root, "acme/shop", "web", Some(&[1; 32])),
    ];
    for config_id in other {
        let las = start_las();
        let cas = start_cas(las.anchor.clone(), configured);
        let mut enclave = enclave(&las, &cas, false);
        enclave.config_id = config_id(&cas);
        let error = run(&mut enclave).expect_err("refused");
        assert!(format!("{error:#}").contains("CONFIGID"), "{error:#}");
        assert!(enclave.log.is_empty());
        assert_eq!(cas.thread.join().expect("CAS"), Seen::NoEvidence);
    }
}

#[test]
fn another_cas_key_than_the_measured_one_is_refused() {
    let las = start_las();
    let cas = start_cas(las.anchor.clone(), configured);
    let mut enclave = enclave(&las, &cas, true);
    enclave.manifest.cas_pin = Some([7; 32]);
    let error = run(&mut enclave).expect_err("refused");
    assert!(
        format!("{error:#}").contains("is no CAS, or its key"),
        "{error:#}"
    );
    assert!(enclave.log.is_empty());
    let _ = cas.thread.join();
}

#[test]
fn a_refusal_names_the_next_step_and_starts_nothing() {
    let las = start_las();
    let cas = start_cas(las.anchor.clone(), |_| {
        ServerFrame::Refused(Refused {
            code: RefusalCode::AttestationRefused,
            retry_after_s: None,
        })
    });
    let mut enclave = enclave(&las, &cas, true);
    let error = run(&mut enclave).expect_err("refused");
    let text = format!("{error:#}");
    assert!(
        text.contains("attestation-refused") && text.contains("audit log"),
        "{text}"
    );
    assert!(enclave.log.is_empty());
    let _ = cas.thread.join();
}

#[test]
fn a_root_that_does_not_mount_starts_nothing_and_leaks_nothing() {
    let las = start_las();
    let cas = start_cas(las.anchor.clone(), configured);
    let mut enclave = enclave(&las, &cas, true);
    enclave.mount_fails = true;
    let error = run(&mut enclave).expect_err("refused");
    let text = format!("{error:#} {error:?}");
    assert!(text.contains("/fspf/fs.fspf"), "{text}");
    assert!(!text.contains(MARKER) && !text.contains("1111"), "{text}");
    assert_eq!(enclave.log, ["mount"]);
    let _ = cas.thread.join();
}

#[test]
fn what_is_missing_is_named() {
    let las = start_las();
    let cas = start_cas(las.anchor.clone(), configured);
    type Change = fn(&mut Enclave);
    let cases: [(Change, &str); 6] = [
        (|e| e.block.config_id.clear(), "SCONE_CONFIG_ID"),
        (
            |e| e.block.config_id = "noservice".to_owned(),
            "SCONE_CONFIG_ID",
        ),
        (|e| e.block.cas_addr.clear(), "SCONE_CAS_ADDR"),
        (|e| e.block.cas_addr = "127.0.0.1:x".to_owned(), "port"),
        (
            |e| e.block.cas_addr = "127.0.0.1:1".to_owned(),
            "cannot reach the CAS",
        ),
        (
            |e| e.block.las_addr = "unix:relative".to_owned(),
            "SCONE_LAS_ADDR",
        ),
    ];
    for (change, expected) in cases {
        let mut enclave = enclave(&las, &cas, true);
        change(&mut enclave);
        let error = run(&mut enclave).expect_err("refused");
        assert!(format!("{error:#}").contains(expected), "{error:#}");
        assert!(enclave.log.is_empty());
    }
    // Without the attestation service the connection to the CAS stands already.
    let mut enclave = enclave(&las, &cas, true);
    enclave.block.las_addr = "unix:/nonexistent/las.sock".to_owned();
    let error = run(&mut enclave).expect_err("refused");
    assert!(
        format!("{error:#}").contains("start ensconce-las"),
        "{error:#}"
    );
    let _ = cas.thread.join();
}
