// SPDX-License-Identifier: Apache-2.0
//! Connections of services: hello, challenge, evidence, configuration; then renewals until the exit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use attest::channel::binding::{Binding, report_data};
use attest::channel::codec::{
    self, CodecError, MAX_EVIDENCE, MAX_FRAME, MAX_HELLO, PREFIX_LEN, payload_len,
};
use attest::channel::encoding::Fixed;
use attest::channel::frame::{
    Challenge, ClientFrame, EvidenceKind, Hello, Lease, RefusalCode, Refused, Role, ServerFrame,
};
use attest::channel::tls::{Peer, peer_of, spki_of};
use attest::channel::{PROTOCOL, binding};
use attest::dcap::{self, SgxEvidence, Verified};
use attest::time::UnixTime;
use aws_lc_rs::rand;
use policy::ConfigId;
use rustls::ServerConfig;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use super::appraise::{self, Refusal};
use super::configure::configure;
use super::floor::{Floor, FloorError};
use super::trust::Trust;
use crate::audit::{Event, Reason};
use crate::identity::Leaf;
use crate::limits::{
    MAX_ATTESTED_PER_ADDRESS, MAX_CHALLENGES_PER_ADDRESS, MAX_CONNECTIONS, Permit, Quota,
};
use crate::service::Service;

/// From the first byte to complete evidence (spec/wire.md).
const ATTEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to send an answer.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a configured service.
const IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// What a renewal grants.
const LEASE_S: u32 = 60;
/// Challenges of all addresses that wait for evidence.
const MAX_CHALLENGES: usize = 256;
/// Longest configuration id that the audit log repeats, in characters.
const MAX_LOGGED_ID: usize = 128;

/// What the connections of services share.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    trust: Trust,
    floor: Floor,
    leaf_spki: Vec<u8>,
    connections: Quota,
    challenges: Quota,
    clock: fn() -> UnixTime,
}

impl Server {
    /// A server that believes `trust`, presents `leaf`, and reads the time from `clock`.
    ///
    /// # Errors
    /// The stored floor of time cannot be read.
    pub fn new(
        service: Arc<Service>,
        leaf: &Leaf,
        trust: Trust,
        clock: fn() -> UnixTime,
    ) -> Result<Self, FloorError> {
        let floor = Floor::load(Arc::clone(service.sessions.store()))?;
        // The leaf was made a moment ago; an unreadable one matches no report data.
        let leaf_spki = leaf.chain.first().and_then(|der| spki_of(der).ok());
        Ok(Self {
            service,
            trust,
            floor,
            leaf_spki: leaf_spki.unwrap_or_default(),
            connections: Quota::new(MAX_ATTESTED_PER_ADDRESS, MAX_CONNECTIONS),
            challenges: Quota::new(MAX_CHALLENGES_PER_ADDRESS, MAX_CHALLENGES),
            clock,
        })
    }
}

/// Serves connections until `stop` changes.
pub async fn accept_loop(
    listener: TcpListener,
    tls: ServerConfig,
    server: Server,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let server = Arc::new(server);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an attested connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(permit) = server.connections.take(peer.ip()) else {
            tracing::warn!(%peer, "too many attested connections; closed");
            continue;
        };
        let (acceptor, server) = (acceptor.clone(), Arc::clone(&server));
        let mut stop = stop.clone();
        tokio::spawn(async move {
            let served = serve(stream, peer, &acceptor, &server, permit);
            tokio::select! {
                ended = served => if let Err(end) = ended {
                    tracing::debug!(%peer, end = %appraise::chain(&end), "an attested connection ended");
                },
                _ = stop.changed() => {}
            }
        });
    }
}

/// Why a connection ends without a refusal: nothing can be said to the other end.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("TLS failed")]
    Tls(#[from] std::io::Error),
    #[error("The connection is not the protocol's")]
    Peer(#[from] attest::channel::tls::TlsError),
    #[error("A frame failed")]
    Codec(#[from] CodecError),
    #[error("Too slow")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("A frame out of order")]
    OutOfOrder,
    #[error("The random generator failed")]
    Random,
}

struct Connection {
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
}

impl Connection {
    async fn receive_bytes(&mut self, limit: usize) -> Result<Zeroizing<Vec<u8>>, End> {
        let mut prefix = [0; PREFIX_LEN];
        self.stream.read_exact(&mut prefix).await?;
        let length = payload_len(prefix, limit)?;
        let mut payload = Zeroizing::new(vec![0; length]);
        self.stream.read_exact(&mut payload).await?;
        Ok(payload)
    }

    async fn receive(&mut self, limit: usize) -> Result<ClientFrame, End> {
        Ok(codec::decode(&self.receive_bytes(limit).await?)?)
    }

    async fn send(&mut self, frame: &ServerFrame) -> Result<(), End> {
        let bytes = codec::encode(frame)?;
        timeout(SEND_TIMEOUT, async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        })
        .await??;
        Ok(())
    }

    /// Sends a refusal and ends the connection in order.
    async fn refuse(&mut self, code: RefusalCode) -> Result<(), End> {
        let retry_after_s = match code {
            RefusalCode::RateLimited => Some(1),
            RefusalCode::NotReady => Some(5),
            _ => None,
        };
        let refused = Refused {
            code,
            retry_after_s,
        };
        self.send(&ServerFrame::Refused(refused)).await?;
        timeout(SEND_TIMEOUT, self.stream.shutdown()).await??;
        Ok(())
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: &TlsAcceptor,
    server: &Server,
    _permit: Permit,
) -> Result<(), End> {
    let deadline = Instant::now() + ATTEST_TIMEOUT;
    // Frames are small; waiting to fill packets only delays them.
    let _ = stream.set_nodelay(true);
    let stream = timeout_at(deadline, acceptor.accept(stream)).await??;
    let peer = peer_of(stream.get_ref().1)?;
    let mut connection = Connection { stream, address };
    match attest_service(&mut connection, &peer, server, deadline).await? {
        Outcome::Refused => Ok(()),
        Outcome::Accepted(id, evidence) => keep(&mut connection, server, &id, &evidence).await,
    }
}

/// How an attestation ended; a refusal has been sent and logged.
enum Outcome {
    Refused,
    Accepted(ConfigId, Box<Verified<SgxEvidence>>),
}

/// Refuses with a code; the reasons go to the owner.
async fn refuse(
    connection: &mut Connection,
    server: &Server,
    service: &str,
    code: RefusalCode,
    refusal: Refusal,
) -> Result<Outcome, End> {
    server.service.audit.record(&Event::ServiceRefused {
        service: service.chars().take(MAX_LOGGED_ID).collect(),
        peer: connection.address,
        code: code.name(),
        reasons: refusal.reasons,
        verdict: refusal.verdict,
    });
    connection.refuse(code).await?;
    Ok(Outcome::Refused)
}

/// Reads hello; `None`: another protocol version was refused.
async fn hello(
    connection: &mut Connection,
    server: &Server,
    deadline: Instant,
) -> Result<Option<Hello>, End> {
    #[derive(Deserialize)]
    struct AnyVersion {
        protocol: u32,
    }
    let payload = timeout_at(deadline, connection.receive_bytes(MAX_HELLO)).await??;
    // The version is looked at first: another version may have other members.
    let version = codec::decode::<AnyVersion>(&payload)?.protocol;
    if version != PROTOCOL {
        let refusal = Refusal::because(format!("protocol version {version} is not spoken here"));
        refuse(connection, server, "", RefusalCode::Version, refusal).await?;
        return Ok(None);
    }
    match codec::decode(&payload)? {
        ClientFrame::Hello(hello) => Ok(Some(hello)),
        _ => Err(End::OutOfOrder),
    }
}

async fn attest_service(
    connection: &mut Connection,
    peer: &Peer,
    server: &Server,
    deadline: Instant,
) -> Result<Outcome, End> {
    let Some(hello) = hello(connection, server, deadline).await? else {
        return Ok(Outcome::Refused);
    };
    let asked = hello.config_id.escape_debug().to_string();
    let id = hello.config_id.parse::<ConfigId>().ok();
    let id = id.filter(|id| id.otp.is_none());
    let known = match &id {
        None => Ok(false),
        Some(id) => server.service.sessions.active(&id.session).map(|active| {
            active.is_some_and(|active| active.session.services.contains_key(id.service.as_str()))
        }),
    };
    let id = match (known, id) {
        (Ok(true), Some(id)) => id,
        (Ok(_), _) => {
            let refusal = Refusal::because("no session of this CAS has this service");
            return refuse(
                connection,
                server,
                &asked,
                RefusalCode::UnknownService,
                refusal,
            )
            .await;
        }
        (Err(error), _) => {
            let refusal = Refusal::because(appraise::chain(&error));
            return refuse(connection, server, &asked, RefusalCode::NotReady, refusal).await;
        }
    };
    if hello.otp.is_some() || hello.token_proof.is_some() {
        let refusal = Refusal::because(
            "a one-time password or access token was offered, but the session asks for none",
        );
        return refuse(
            connection,
            server,
            &asked,
            RefusalCode::SecondFactor,
            refusal,
        )
        .await;
    }
    let Some(_challenge_permit) = server.challenges.take(connection.address.ip()) else {
        let refusal = Refusal::because("too many challenges of this address wait for evidence");
        return refuse(
            connection,
            server,
            &asked,
            RefusalCode::RateLimited,
            refusal,
        )
        .await;
    };
    let mut nonce = [0; 32];
    rand::fill(&mut nonce).map_err(|_| End::Random)?;
    let challenge = Challenge {
        nonce: Fixed(nonce),
        accepts: vec![EvidenceKind::SgxDcap],
        singleton: None,
        token_proof: None,
    };
    connection.send(&ServerFrame::Challenge(challenge)).await?;
    let frame = timeout_at(deadline, connection.receive(MAX_EVIDENCE)).await??;
    let ClientFrame::Evidence(evidence) = frame else {
        return Err(End::OutOfOrder);
    };
    let expected = report_data(&Binding {
        role: Role::Service,
        version: PROTOCOL,
        config_id: &hello.config_id,
        own_spki: &peer.leaf_spki,
        peer_leaf_spki: &server.leaf_spki,
        nonce: &nonce,
        exporter: &peer.exporter,
    });
    debug_assert!(binding::is_agent_form(&expected));
    let verified = match verify(server, &evidence, &expected, &id).await {
        Ok(verified) => verified,
        Err(refusal) => {
            let code = RefusalCode::AttestationRefused;
            return refuse(connection, server, &asked, code, refusal).await;
        }
    };
    match answer(server, &verified, &id) {
        Ok((config, verdict)) => {
            let frame = ServerFrame::Config(Box::new(config));
            server.service.audit.record(&Event::ServiceAttested {
                service: id.to_string(),
                peer: connection.address,
                verdict,
            });
            connection.send(&frame).await?;
            Ok(Outcome::Accepted(id, Box::new(verified)))
        }
        Err((code, refusal)) => refuse(connection, server, &asked, code, refusal).await,
    }
}

/// Verifies evidence and its binding, and holds time and collateral to what was seen before.
async fn verify(
    server: &Server,
    evidence: &attest::channel::frame::Evidence,
    expected: &[u8; 64],
    id: &ConfigId,
) -> Result<Verified<SgxEvidence>, Refusal> {
    let now = (server.clock)();
    let floor = |error: FloorError| Refusal::because(appraise::chain(&error));
    server.floor.check_time(now).map_err(floor)?;
    let (bundles, mut reasons) = appraise::candidates(evidence, &server.trust);
    for bundle in &bundles {
        // A few signature checks: shorter than handing the work to another thread pays for.
        let verified = match dcap::verify(&evidence.quote.0, bundle, &server.trust.anchors, now) {
            Ok(verified) => verified,
            Err(error) => {
                reasons.push(appraise::reason(appraise::chain(&error)));
                continue;
            }
        };
        if let Err(error) = server.floor.admit(&verified.freshness).await {
            reasons.push(appraise::reason(appraise::chain(&error)));
            continue;
        }
        let root = server.service.key_hash().as_bytes();
        appraise::bound(&verified, expected, root, id)?;
        return Ok(verified);
    }
    Err(Refusal {
        reasons,
        verdict: None,
    })
}

/// Judges evidence by the session as it is now, and builds the configuration.
fn answer(
    server: &Server,
    evidence: &Verified<SgxEvidence>,
    id: &ConfigId,
) -> Result<(attest::channel::config::Config, crate::audit::Verdict), (RefusalCode, Refusal)> {
    let not_ready = |error: &dyn std::error::Error| {
        let reason = Refusal::because(appraise::chain(error));
        (RefusalCode::NotReady, reason)
    };
    let head = server.service.sessions.store().head();
    let active = server.service.sessions.active(&id.session);
    let active = active.map_err(|error| not_ready(&error))?.ok_or_else(|| {
        let refusal = Refusal::because("the session is gone");
        (RefusalCode::UnknownService, refusal)
    })?;
    let verdict = appraise::judge(evidence, &active, id)
        .map_err(|refusal| (RefusalCode::AttestationRefused, refusal))?;
    let root = server.service.key_hash().as_bytes();
    let config = configure(&active, id, &head, root).map_err(|error| not_ready(&error))?;
    Ok((config, verdict))
}

/// Answers a configured service until it exits or is fenced.
async fn keep(
    connection: &mut Connection,
    server: &Server,
    id: &ConfigId,
    evidence: &Verified<SgxEvidence>,
) -> Result<(), End> {
    loop {
        match timeout(IDLE_TIMEOUT, connection.receive(MAX_FRAME)).await?? {
            ClientFrame::Renew(_) => {
                // The session may have changed: a service that it no longer accepts is fenced.
                if let Err((code, refusal)) = answer(server, evidence, id) {
                    refuse(connection, server, &id.to_string(), code, refusal).await?;
                    return Ok(());
                }
                let lease = Lease { lease_s: LEASE_S };
                connection.send(&ServerFrame::Lease(lease)).await?;
            }
            ClientFrame::Exit(exit) => {
                server.service.audit.record(&Event::ServiceExited {
                    service: id.to_string(),
                    peer: connection.address,
                    code: exit.code,
                    signal: exit.signal,
                });
                return Ok(());
            }
            ClientFrame::Tag(tag) => {
                let refusal = Refusal {
                    reasons: vec![Reason {
                        problem: format!(
                            "a tag for the volume '{}', which the session does not have",
                            tag.volume.chars().take(MAX_LOGGED_ID).collect::<String>()
                        ),
                        tolerate: None,
                    }],
                    verdict: None,
                };
                let code = RefusalCode::VolumeLocked;
                refuse(connection, server, &id.to_string(), code, refusal).await?;
                return Ok(());
            }
            ClientFrame::Hello(_) | ClientFrame::Evidence(_) => return Err(End::OutOfOrder),
        }
    }
}
