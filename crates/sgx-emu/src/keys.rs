// SPDX-License-Identifier: Apache-2.0
//! Who answers EREPORT and EGETKEY: the emulated platform behind the local
//! attestation service, or a processor made for this one run.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use enclave_abi::las::{self, Answer, Base64, Request};
use sgx::derive::{self, DeriveError, FuseKey, Key, SecsIdentity};
use sgx::key::KeyRequest;
use sgx::report::{Report, TargetInfo};
use thiserror::Error;
use zeroize::Zeroize;

/// Why the processor could not answer. Silicon has no such failures; the
/// emulated machine stops.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeySourceError {
    /// The service cannot be reached or broke off.
    #[error("local attestation service does not answer")]
    Io(#[from] io::Error),
    /// The service's frame is longer than allowed.
    #[error("local attestation service sent a frame of {len} bytes, at most {max} are allowed", max = las::FRAME_MAX)]
    FrameLength {
        /// The length claimed.
        len: u32,
    },
    /// The service's frame is no message.
    #[error("local attestation service sent something that is no message")]
    Message(#[from] serde_json::Error),
    /// The service answered another question.
    #[error("local attestation service gave an answer that does not fit the request")]
    Unexpected,
    /// The service refused.
    #[error("local attestation service refused: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
    /// The kernel gave no random bytes.
    #[error("no random bytes for the processor's fuse key")]
    Random(#[source] io::Error),
}

/// What EGETKEY gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyAnswer {
    /// The key.
    Key(Key),
    /// An error code for RAX.
    Code(u64),
    /// The request makes the instruction fault with #GP.
    Fault,
}

/// The secret part of the processor.
pub trait KeySource: Send + Sync + std::fmt::Debug {
    /// EREPORT for the enclave `secs`.
    ///
    /// # Errors
    /// [`KeySourceError`] when the platform is out of reach.
    fn report(
        &self,
        secs: &SecsIdentity,
        target: &TargetInfo,
        data: &[u8; 64],
    ) -> Result<Report, KeySourceError>;

    /// EGETKEY for the enclave `secs`.
    ///
    /// # Errors
    /// [`KeySourceError`] when the platform is out of reach.
    fn key(&self, secs: &SecsIdentity, request: &KeyRequest) -> Result<KeyAnswer, KeySourceError>;
}

/// A processor with random fuses: its enclaves run, hash and seal until the
/// process ends, and nobody accepts their reports.
#[derive(Debug)]
pub struct ThrowAway {
    fuses: FuseKey,
    report_key_id: [u8; 32],
}

/// CPUSVN of throw-away processors.
const CPU_SVN: [u8; 16] = [1; 16];

impl ThrowAway {
    /// Makes a processor.
    ///
    /// # Errors
    /// [`KeySourceError::Random`].
    pub fn new() -> Result<Self, KeySourceError> {
        let mut secret = random()?;
        let fuses = FuseKey::new(secret);
        secret.zeroize();
        Ok(Self {
            fuses,
            report_key_id: random()?,
        })
    }
}

fn random() -> Result<[u8; 32], KeySourceError> {
    let mut out = [0u8; 32];
    // SAFETY: `out` has the length given; requests of up to 256 bytes are
    // answered whole (getrandom(2)).
    let got = unsafe { libc::getrandom(out.as_mut_ptr().cast(), out.len(), 0) };
    if usize::try_from(got) == Ok(out.len()) {
        Ok(out)
    } else {
        Err(KeySourceError::Random(io::Error::last_os_error()))
    }
}

impl KeySource for ThrowAway {
    fn report(
        &self,
        secs: &SecsIdentity,
        target: &TargetInfo,
        data: &[u8; 64],
    ) -> Result<Report, KeySourceError> {
        let key_id = &self.report_key_id;
        Ok(derive::ereport(
            &self.fuses,
            secs,
            target,
            data,
            key_id,
            &CPU_SVN,
        ))
    }

    fn key(&self, secs: &SecsIdentity, request: &KeyRequest) -> Result<KeyAnswer, KeySourceError> {
        Ok(
            match derive::derive(&self.fuses, request, secs, &CPU_SVN).map_err(DeriveError::rax) {
                Ok(key) => KeyAnswer::Key(key),
                Err(Some(code)) => KeyAnswer::Code(code),
                Err(None) => KeyAnswer::Fault,
            },
        )
    }
}

/// The emulated platform behind the local attestation service's socket.
#[derive(Debug)]
pub struct LasSocket {
    stream: Mutex<UnixStream>,
}

impl LasSocket {
    /// Connects and checks that the service emulates a platform.
    ///
    /// # Errors
    /// [`KeySourceError`], also if the service stands before real hardware.
    pub fn connect(path: &Path) -> Result<Self, KeySourceError> {
        let stream = UnixStream::connect(path)?;
        let timeout = Some(Duration::from_secs(las::TIMEOUT_S));
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)?;
        let source = Self {
            stream: Mutex::new(stream),
        };
        match source.ask(&Request::Info {})? {
            Answer::Info {
                kind: las::Kind::Emulated,
                ..
            } => Ok(source),
            Answer::Info { .. } => Err(KeySourceError::Refused {
                message: "it serves SGX hardware, not an emulated platform".to_owned(),
            }),
            answer => Err(unexpected(answer)),
        }
    }

    /// The connection's descriptor, to be moved out of the program's way.
    ///
    /// # Errors
    /// What `dup` gives.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.stream
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .as_fd()
            .try_clone_to_owned()
    }

    /// The same connection under another descriptor.
    #[must_use]
    pub fn with_descriptor(self, descriptor: OwnedFd) -> Self {
        Self {
            stream: Mutex::new(UnixStream::from(descriptor)),
        }
    }

    fn ask(&self, request: &Request) -> Result<Answer, KeySourceError> {
        let body = serde_json::to_vec(request)?;
        let len = u32::try_from(body.len()).map_err(|_| KeySourceError::Unexpected)?;
        let mut stream = self
            .stream
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut frame = len.to_le_bytes().to_vec();
        frame.extend_from_slice(&body);
        stream.write_all(&frame)?;
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len);
        if usize::try_from(len).map_or(true, |len| len > las::FRAME_MAX) {
            return Err(KeySourceError::FrameLength { len });
        }
        let mut body = zeroize::Zeroizing::new(vec![0; len as usize]);
        stream.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}

fn unexpected(answer: Answer) -> KeySourceError {
    match answer {
        Answer::Error { message } => KeySourceError::Refused { message },
        _ => KeySourceError::Unexpected,
    }
}

fn wire_identity(secs: &SecsIdentity) -> las::SecsIdentity {
    let bytes = |bytes: &[u8]| Base64(bytes.to_vec());
    las::SecsIdentity {
        attributes: bytes(&secs.attributes.to_bytes()),
        miscselect: secs.miscselect.bits(),
        mrenclave: bytes(&secs.mrenclave),
        mrsigner: bytes(&secs.mrsigner),
        config_id: bytes(&secs.config_id),
        isv_prod_id: secs.isv_prod_id,
        isv_svn: secs.isv_svn,
        config_svn: secs.config_svn,
        isv_ext_prod_id: bytes(&secs.isv_ext_prod_id),
        isv_family_id: bytes(&secs.isv_family_id),
    }
}

impl KeySource for LasSocket {
    fn report(
        &self,
        secs: &SecsIdentity,
        target: &TargetInfo,
        data: &[u8; 64],
    ) -> Result<Report, KeySourceError> {
        let answer = self.ask(&Request::Ereport {
            targetinfo: Base64(target.to_bytes().to_vec()),
            reportdata: Base64(data.to_vec()),
            secs: wire_identity(secs),
        })?;
        let Answer::Ereport { report } = answer else {
            return Err(unexpected(answer));
        };
        let bytes =
            <[u8; Report::SIZE]>::try_from(report.0).map_err(|_| KeySourceError::Unexpected)?;
        Ok(Report::from_bytes(&bytes))
    }

    fn key(&self, secs: &SecsIdentity, request: &KeyRequest) -> Result<KeyAnswer, KeySourceError> {
        let answer = self.ask(&Request::Egetkey {
            keyrequest: Base64(request.to_bytes().to_vec()),
            secs: wire_identity(secs),
        })?;
        let Answer::Egetkey { key, error } = answer else {
            return Err(unexpected(answer));
        };
        match key {
            Some(mut bytes) => {
                let key = <[u8; 16]>::try_from(bytes.0.as_slice());
                bytes.0.zeroize();
                let mut key = key.map_err(|_| KeySourceError::Unexpected)?;
                let answer = KeyAnswer::Key(Key::new(key));
                key.zeroize();
                Ok(answer)
            }
            None if error == 0 => Err(KeySourceError::Unexpected),
            None => Ok(KeyAnswer::Code(error)),
        }
    }
}
