// SPDX-License-Identifier: Apache-2.0
//! The agent's half of the attested channel, blocking.

use std::error::Error as StdError;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::PROTOCOL;
use super::binding::{Binding, TokenSide, check_token_proof, report_data, token_proof};
use super::codec::{CodecError, MAX_FRAME, read_frame, write_frame};
use super::config::Config;
use super::encoding::{Fixed, SecretText};
use super::frame::{
    Ack, Challenge, ClientFrame, Evidence, EvidenceKind, Exit, Hello, Lease, RefusalCode, Renew,
    Role, ServerFrame, Tag,
};
use super::tls::{Peer, TlsError, client_config, peer_of};

/// Time from the first byte to the configuration (spec/wire.md).
pub const ATTEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one later request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the agent got no configuration, or lost the session.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server name is neither a DNS name nor an IP address.
    #[error("{name:?} is not a valid server name")]
    ServerName {
        /// What was given.
        name: String,
    },
    /// TLS could not be set up or used.
    #[error("attested channel could not be established")]
    Tls(#[from] TlsError),
    /// The handshake failed; a wrong CAS root key shows as an unknown issuer.
    #[error("TLS handshake with the CAS failed")]
    Handshake(#[source] io::Error),
    /// A frame could not be transferred or understood.
    #[error("exchange with the CAS failed")]
    Codec(#[from] CodecError),
    /// The CAS refused.
    #[error("CAS refused: {code}")]
    Refused {
        /// Its reason.
        code: RefusalCode,
        /// Seconds after which asking again may help.
        retry_after_s: Option<u32>,
    },
    /// The CAS sent a frame that is not the answer to the request.
    #[error("CAS sent an unexpected frame instead of {expected}")]
    Unexpected {
        /// The frame that was due.
        expected: &'static str,
    },
    /// The CAS takes no kind of evidence that this agent can make.
    #[error("CAS accepts no SGX DCAP evidence")]
    NoCommonEvidence,
    /// The CAS did not prove that it knows the service access token.
    #[error("CAS did not prove the service access token")]
    TokenNotProved,
    /// The configuration names another CAS root than the one of the connection.
    #[error("configuration names another CAS root key than the connection")]
    ForeignRoot,
    /// Evidence could not be made.
    #[error("evidence could not be made")]
    Evidence(#[source] Box<dyn StdError + Send + Sync>),
}

/// Whom to ask and for what.
#[derive(Debug, Clone)]
pub struct Connect<'a> {
    /// Host name or address of the CAS (sent as SNI where it is a name).
    pub server_name: &'a str,
    /// SHA-256 of the CAS root's SubjectPublicKeyInfo, where known.
    pub pin: Option<[u8; 32]>,
    /// `session/service`.
    pub config_id: &'a str,
    /// One-time password, where the session asks for one.
    pub otp: Option<SecretText>,
    /// Service access token, where the session asks for one; proved, not sent.
    pub token: Option<SecretText>,
}

/// What evidence has to cover on this connection.
#[derive(Debug, Clone, Copy)]
pub struct EvidenceRequest {
    /// Report data for the REPORT, in the agent's form.
    pub report_data: [u8; 64],
    /// SHA-256 of the SubjectPublicKeyInfo of the root that the CAS's chain
    /// ends in. The enclave's CONFIGID must have been made with it.
    pub cas_root_spki: [u8; 32],
    /// Singleton token that CONFIGID[32..64] must hold.
    pub singleton: Option<[u8; 32]>,
}

/// A TCP stream whose operations together end at a deadline.
#[derive(Debug)]
struct Deadlined {
    stream: TcpStream,
    deadline: Option<Instant>,
}

impl Deadlined {
    fn remaining(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else {
            return Ok(None);
        };
        match deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Read for Deadlined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.remaining()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Deadlined {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.remaining()?)?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// An attested connection after the configuration arrived.
#[derive(Debug)]
pub struct Session {
    tls: StreamOwned<ClientConnection, Deadlined>,
    peer: Peer,
}

impl Session {
    /// Connects, attests and receives the configuration, all within
    /// [`ATTEST_TIMEOUT`]. `evidence` is called once, after the handshake, with
    /// what the evidence must cover.
    ///
    /// # Errors
    /// [`ClientError`]; nothing of the configuration is kept on failure.
    pub fn connect<E>(
        stream: TcpStream,
        connect: &Connect<'_>,
        evidence: impl FnOnce(&EvidenceRequest) -> Result<Evidence, E>,
    ) -> Result<(Config, Self), ClientError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let name = ServerName::try_from(connect.server_name.to_owned()).map_err(|_| {
            ClientError::ServerName {
                name: connect.server_name.to_owned(),
            }
        })?;
        let (config, own_spki) = client_config(connect.pin)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(TlsError::Rustls)?;
        let mut tls = StreamOwned::new(
            connection,
            Deadlined {
                stream,
                deadline: Instant::now().checked_add(ATTEST_TIMEOUT),
            },
        );
        while tls.conn.is_handshaking() {
            tls.conn
                .complete_io(&mut tls.sock)
                .map_err(ClientError::Handshake)?;
        }
        let peer = peer_of(&tls.conn)?;
        let mut session = Self { tls, peer };

        let challenge = session.say_hello(connect)?;
        let request = EvidenceRequest {
            report_data: report_data(&Binding {
                role: Role::Service,
                version: PROTOCOL,
                config_id: connect.config_id,
                own_spki: &own_spki,
                peer_leaf_spki: &session.peer.leaf_spki,
                nonce: &challenge.nonce.0,
                exporter: &session.peer.exporter,
            }),
            cas_root_spki: session.peer.root_spki,
            singleton: challenge.singleton.map(|token| token.0),
        };
        let evidence = evidence(&request).map_err(|error| ClientError::Evidence(error.into()))?;
        session.send(&ClientFrame::Evidence(evidence))?;
        let ServerFrame::Config(config) = session.receive()? else {
            return Err(ClientError::Unexpected { expected: "config" });
        };
        if !bool::from(config.cas_root_spki.0.ct_eq(&session.peer.root_spki)) {
            return Err(ClientError::ForeignRoot);
        }
        session.tls.sock.deadline = None;
        Ok((*config, session))
    }

    fn say_hello(&mut self, connect: &Connect<'_>) -> Result<Challenge, ClientError> {
        let exporter = self.peer.exporter;
        let token = connect
            .token
            .as_ref()
            .map(|token| token.expose().as_bytes());
        self.send(&ClientFrame::Hello(Hello {
            protocol: PROTOCOL,
            config_id: connect.config_id.to_owned(),
            role: Role::Service,
            otp: connect.otp.clone(),
            token_proof: token
                .map(|token| Fixed(token_proof(TokenSide::Service, token, &exporter))),
        }))?;
        let ServerFrame::Challenge(challenge) = self.receive()? else {
            return Err(ClientError::Unexpected {
                expected: "challenge",
            });
        };
        if let Some(token) = token {
            let proved = challenge
                .token_proof
                .is_some_and(|proof| check_token_proof(TokenSide::Cas, token, &exporter, &proof.0));
            if !proved {
                return Err(ClientError::TokenNotProved);
            }
        }
        if !challenge.accepts.contains(&EvidenceKind::SgxDcap) {
            return Err(ClientError::NoCommonEvidence);
        }
        Ok(challenge)
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the CAS's root.
    pub const fn cas_root_spki(&self) -> &[u8; 32] {
        &self.peer.root_spki
    }

    /// Moves a volume's tag on and waits for the receipt.
    ///
    /// # Errors
    /// [`ClientError`]; after an error the session must not be used further.
    pub fn send_tag(&mut self, tag: Tag) -> Result<Ack, ClientError> {
        match self.request(&ClientFrame::Tag(tag))? {
            ServerFrame::Ack(ack) => Ok(ack),
            _ => Err(ClientError::Unexpected { expected: "ack" }),
        }
    }

    /// Asks for a longer lease.
    ///
    /// # Errors
    /// [`ClientError`]; after an error the session must not be used further.
    pub fn renew(&mut self) -> Result<Lease, ClientError> {
        match self.request(&ClientFrame::Renew(Renew {}))? {
            ServerFrame::Lease(lease) => Ok(lease),
            _ => Err(ClientError::Unexpected { expected: "lease" }),
        }
    }

    /// Tells the CAS how the program ended and closes the connection.
    ///
    /// # Errors
    /// [`ClientError`] if the frame could not be handed over.
    pub fn send_exit(mut self, exit: Exit) -> Result<(), ClientError> {
        self.tls.sock.deadline = Instant::now().checked_add(REQUEST_TIMEOUT);
        self.send(&ClientFrame::Exit(exit))?;
        self.tls.conn.send_close_notify();
        self.tls.flush().map_err(CodecError::Io)?;
        Ok(())
    }

    fn request(&mut self, frame: &ClientFrame) -> Result<ServerFrame, ClientError> {
        self.tls.sock.deadline = Instant::now().checked_add(REQUEST_TIMEOUT);
        self.send(frame)?;
        loop {
            let answer = self.receive()?;
            // A lease may be pushed between a request and its answer.
            if matches!(answer, ServerFrame::Lease(_)) && !matches!(frame, ClientFrame::Renew(_)) {
                continue;
            }
            self.tls.sock.deadline = None;
            return Ok(answer);
        }
    }

    fn send(&mut self, frame: &ClientFrame) -> Result<(), ClientError> {
        Ok(write_frame(&mut self.tls, frame)?)
    }

    fn receive(&mut self) -> Result<ServerFrame, ClientError> {
        match read_frame(&mut self.tls, MAX_FRAME)? {
            ServerFrame::Refused(refused) => Err(ClientError::Refused {
                code: refused.code,
                retry_after_s: refused.retry_after_s,
            }),
            frame => Ok(frame),
        }
    }
}
