// SPDX-License-Identifier: Apache-2.0
//! Requests of the local attestation service and their answers.

mod listen;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use attest::time::UnixTime;
use enclave_abi::las::{Answer, Base64, FRAME_MAX, Kind, Request, SecsIdentity as WireSecs};
use sgx::attributes::{Attributes, MiscSelect};
use sgx::derive::{SecsIdentity, derive, ereport};
use sgx::key::KeyRequest;
use sgx::report::{Report, TargetInfo};
use thiserror::Error;

use crate::platform::{CPU_SVN, FMSPC, Platform, PlatformError};
use crate::quoting::{QuotingEnclave, QuotingError};

pub use listen::{ListenError, Options, Running, serve};

/// Whether a connection may use the emulated CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Quotes and collateral only.
    Quotes,
    /// Also EREPORT and EGETKEY.
    Cpu,
}

/// Why a request is refused. The text goes to the asker.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// EREPORT or EGETKEY over TCP.
    #[error("the emulated CPU is reached through the unix socket only")]
    NotHere,
    /// A binary value of another length.
    #[error("{field} must have {expected} bytes")]
    Length {
        /// Which value.
        field: &'static str,
        /// Its length.
        expected: usize,
    },
    /// A structure with reserved bytes set.
    #[error("{structure} has reserved bytes set")]
    Reserved {
        /// Which structure.
        structure: &'static str,
    },
    /// EGETKEY that would fault.
    #[error("EGETKEY raises #GP: {0}")]
    Fault(sgx::derive::DeriveError),
    /// Collateral of other machines.
    #[error("there is collateral only for FMSPC {expected} and CA `platform`")]
    OtherPlatform {
        /// This platform's FMSPC.
        expected: String,
    },
    /// No quote.
    #[error("{0}")]
    Quoting(#[from] QuotingError),
    /// No collateral.
    #[error("collateral could not be renewed; see the service's log")]
    Collateral(#[source] PlatformError),
    /// Collateral that does not fit a frame.
    #[error("collateral is too long")]
    TooLong,
}

/// The service with an emulated platform behind it.
pub struct Service {
    platform: Mutex<Platform>,
    quoting: QuotingEnclave,
    report_key_id: [u8; 32],
    platform_id: String,
    anchor: String,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({})", self.platform_id)
    }
}

impl Service {
    /// Starts the quoting enclave and renews collateral that is about to
    /// expire.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub fn new(mut platform: Platform, now: UnixTime) -> Result<Self, PlatformError> {
        platform.collateral(now)?;
        let mut report_key_id = [0; 32];
        aws_lc_rs::rand::fill(&mut report_key_id).map_err(|_| PlatformError::Random)?;
        Ok(Self {
            quoting: platform.quoting_enclave()?,
            platform_id: platform.info().qe_id.clone(),
            anchor: platform.info().anchor.clone(),
            platform: Mutex::new(platform),
            report_key_id,
        })
    }

    /// Identifier of the machine, hex.
    pub fn platform_id(&self) -> &str {
        &self.platform_id
    }

    /// SHA-256 of the anchor's SubjectPublicKeyInfo, hex.
    pub fn anchor(&self) -> &str {
        &self.anchor
    }

    /// Answers one request; refusals become [`Answer::Error`].
    pub fn answer(&self, request: &Request, access: Access, now: UnixTime) -> Answer {
        self.try_answer(request, access, now)
            .unwrap_or_else(|error| {
                if let RequestError::Collateral(source) = &error {
                    tracing::error!(error = %source, "collateral could not be renewed");
                }
                Answer::Error {
                    message: error.to_string(),
                }
            })
    }

    fn try_answer(
        &self,
        request: &Request,
        access: Access,
        now: UnixTime,
    ) -> Result<Answer, RequestError> {
        match request {
            Request::Info {} => Ok(Answer::Info {
                kind: Kind::Emulated,
                qe_target_info: Base64(self.quoting.target_info().to_bytes().to_vec()),
                platform_id: self.platform_id.clone(),
                anchor: self.anchor.clone(),
            }),
            Request::Health {} => Ok(Answer::Health { ready: true }),
            Request::Quote { report } => {
                let report = Report::from_bytes(&fixed(report, "report")?);
                let platform = self.lock();
                let quote = self.quoting.quote(platform.fuses(), &CPU_SVN, &report)?;
                Ok(Answer::Quote {
                    quote: Base64(quote),
                })
            }
            Request::Collateral { fmspc, ca } => self.collateral(fmspc, ca, now),
            Request::Ereport { .. } | Request::Egetkey { .. } if access != Access::Cpu => {
                Err(RequestError::NotHere)
            }
            Request::Ereport {
                targetinfo,
                reportdata,
                secs,
            } => {
                let target = TargetInfo::from_bytes(&fixed(targetinfo, "targetinfo")?).ok_or(
                    RequestError::Reserved {
                        structure: "TARGETINFO",
                    },
                )?;
                let report = ereport(
                    self.lock().fuses(),
                    &identity(secs)?,
                    &target,
                    &fixed(reportdata, "reportdata")?,
                    &self.report_key_id,
                    &CPU_SVN,
                );
                Ok(Answer::Ereport {
                    report: Base64(report.to_bytes().to_vec()),
                })
            }
            Request::Egetkey { keyrequest, secs } => {
                let request = KeyRequest::from_bytes(&fixed(keyrequest, "keyrequest")?).ok_or(
                    RequestError::Reserved {
                        structure: "KEYREQUEST",
                    },
                )?;
                match derive(self.lock().fuses(), &request, &identity(secs)?, &CPU_SVN) {
                    Ok(key) => Ok(Answer::Egetkey {
                        key: Some(Base64(key.to_vec())),
                        error: sgx::leaf::error::SUCCESS,
                    }),
                    Err(error) => match error.rax() {
                        Some(rax) => Ok(Answer::Egetkey {
                            key: None,
                            error: rax,
                        }),
                        None => Err(RequestError::Fault(error)),
                    },
                }
            }
        }
    }

    fn collateral(&self, fmspc: &str, ca: &str, now: UnixTime) -> Result<Answer, RequestError> {
        let own = hex::encode_upper(FMSPC);
        if !fmspc.eq_ignore_ascii_case(&own) || ca != "platform" {
            return Err(RequestError::OtherPlatform { expected: own });
        }
        let mut platform = self.lock();
        let bundle = platform
            .collateral(now)
            .map_err(RequestError::Collateral)?
            .to_json()
            .map_err(|_| RequestError::TooLong)?;
        // Escaping at most doubles it; the frame has to hold it.
        if bundle.len() > FRAME_MAX / 2 {
            return Err(RequestError::TooLong);
        }
        Ok(Answer::Collateral { bundle })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Platform> {
        // Nothing under the lock leaves the platform half changed.
        self.platform.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fixed<const N: usize>(bytes: &Base64, field: &'static str) -> Result<[u8; N], RequestError> {
    bytes
        .0
        .as_slice()
        .try_into()
        .map_err(|_| RequestError::Length { field, expected: N })
}

fn identity(secs: &WireSecs) -> Result<SecsIdentity, RequestError> {
    Ok(SecsIdentity {
        attributes: Attributes::from_bytes(&fixed(&secs.attributes, "attributes")?),
        miscselect: MiscSelect::from_bits_retain(secs.miscselect),
        mrenclave: fixed(&secs.mrenclave, "mrenclave")?,
        mrsigner: fixed(&secs.mrsigner, "mrsigner")?,
        isv_prod_id: secs.isv_prod_id,
        isv_svn: secs.isv_svn,
        config_id: fixed(&secs.config_id, "config_id")?,
        config_svn: secs.config_svn,
        isv_ext_prod_id: fixed(&secs.isv_ext_prod_id, "isv_ext_prod_id")?,
        isv_family_id: fixed(&secs.isv_family_id, "isv_family_id")?,
    })
}
