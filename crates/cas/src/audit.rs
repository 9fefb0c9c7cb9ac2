// SPDX-License-Identifier: Apache-2.0
//! The owner's audit log: one JSON object per line. It holds full verdicts and no secrets; what the
//! refused party is told is a code only.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The CAS started.
    Started {
        /// Key hash of the CAS.
        cas_key: String,
        /// How fresh its store is known to be.
        freshness: &'static str,
        /// Whether it is a development CAS.
        dev: bool,
    },
    /// A session was created or updated.
    SessionUploaded {
        /// Name.
        session: String,
        /// Whether it is new.
        created: bool,
        /// Key hash of the uploader.
        by: String,
    },
    /// A session operation was denied.
    SessionDenied {
        /// Name.
        session: String,
        /// The operation.
        operation: String,
        /// The rule.
        decision: String,
        /// Key hash of the requester, if it showed one.
        by: Option<String>,
    },
    /// A session was read.
    SessionRead {
        /// Name.
        session: String,
        /// Key hash of the reader, if it showed one.
        by: Option<String>,
    },
    /// A service received its configuration.
    ServiceAttested {
        /// `session/service`.
        service: String,
        /// Address of the service.
        peer: SocketAddr,
        /// What was accepted and why.
        verdict: Verdict,
    },
    /// A service was refused.
    ServiceRefused {
        /// `session/service` as asked for, cut and escaped.
        service: String,
        /// Address of the asker.
        peer: SocketAddr,
        /// The code that the asker was told.
        code: &'static str,
        /// Every reason, with actual and expected values.
        reasons: Vec<Reason>,
        /// What the evidence showed, where it could be verified.
        verdict: Option<Box<Verdict>>,
    },
    /// A service said how its program ended.
    ServiceExited {
        /// `session/service`.
        service: String,
        /// Address of the service.
        peer: SocketAddr,
        /// Exit code of the program.
        code: u8,
        /// Signal that ended it.
        signal: Option<u8>,
    },
}

/// One reason of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What is wrong, actual and expected values included.
    pub problem: String,
    /// The YAML that would tolerate it, if anything would. Advice, not authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerate: Option<String>,
}

/// What verified evidence says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Measurement, hex.
    pub mrenclave: String,
    /// Signer, hex.
    pub mrsigner: String,
    /// Product number.
    pub isvprodid: u16,
    /// Security version.
    pub isvsvn: u16,
    /// Debug enclave.
    pub debug: bool,
    /// SHA-256 of the anchor's SPKI, hex.
    pub anchor: String,
    /// Whether the anchor is of an emulated platform.
    pub emulated: bool,
    /// TCB status.
    pub tcb_status: String,
    /// Advisories of the platform.
    pub advisories: Vec<String>,
    /// Insecure conveniences that the session tolerates and that were needed.
    pub tolerated: Vec<String>,
}

#[derive(Serialize)]
struct Line<'e> {
    time: String,
    #[serde(flatten)]
    event: &'e Event,
}

/// The open log.
#[derive(Debug)]
pub struct Audit {
    file: Mutex<File>,
}

impl Audit {
    /// Appends to an open file.
    pub fn new(file: File) -> Self {
        Self {
            file: Mutex::new(file),
        }
    }

    /// Appends an event. A log that cannot be written is reported loudly, once per event.
    pub fn record(&self, event: &Event) {
        let now = OffsetDateTime::now_utc();
        let time = now.format(&Rfc3339).unwrap_or_default();
        let Ok(mut line) = serde_json::to_vec(&Line { time, event }) else {
            return tracing::error!("an audit event could not be encoded");
        };
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // One write per line, so that lines of a log shared by copies never mix.
        if let Err(error) = file.write_all(&line) {
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}
