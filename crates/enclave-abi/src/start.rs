// SPDX-License-Identifier: Apache-2.0
//! The start block and the agent's control files.
//!
//! The start block goes from the launcher through the kernel to the agent. It
//! is closed and typed (rule S16), and everything in it is an untrusted claim.
//!
//! The agent alone sees these files, until it writes [`FILE_START`]; then they
//! are gone for good, except [`FILE_REPORT`]:
//!
//! | file | use |
//! |---|---|
//! | [`FILE_BLOCK`] | read: the encoded [`StartBlock`] |
//! | [`FILE_MANIFEST`] | read: the encoded manifest |
//! | [`FILE_REPORT`] | write 64 bytes of report data and 512 of TARGETINFO, then read a 432-byte REPORT |
//! | [`FILE_SEALKEY`] | read: 16 bytes, the seal key bound to MRENCLAVE and CONFIGID |
//! | [`FILE_MOUNT`] | write one encoded [`Mount`] |
//! | [`FILE_INJECT`] | write one encoded [`Inject`] per call |
//! | [`FILE_CONFIG`] | write one encoded [`crate::manifest::ProgramConfig`] |
//! | [`FILE_START`] | write one byte: the program starts as process 2, whom the agent may wait for |

use alloc::string::String;
use alloc::vec::Vec;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec::{DecodeError, Reader, Writer};

/// Directory of the agent's control files.
pub const DIRECTORY: &str = "/dev/ensconce";
#[allow(missing_docs, reason = "the table above says what each file is")]
mod files {
    pub const FILE_BLOCK: &str = "/dev/ensconce/start-block";
    pub const FILE_MANIFEST: &str = "/dev/ensconce/manifest";
    pub const FILE_REPORT: &str = "/dev/ensconce/report";
    pub const FILE_SEALKEY: &str = "/dev/ensconce/sealkey";
    pub const FILE_MOUNT: &str = "/dev/ensconce/mount";
    pub const FILE_INJECT: &str = "/dev/ensconce/inject";
    pub const FILE_CONFIG: &str = "/dev/ensconce/config";
    pub const FILE_START: &str = "/dev/ensconce/start";
}
pub use files::*;

const MAGIC: &[u8; 8] = b"ENSCSTRT";
/// Version of the start block.
pub const VERSION: u32 = 1;
/// Largest encoded start block in bytes.
pub const BLOCK_MAX: usize = 768 << 10;
/// Most arguments or variables.
pub const ENTRIES_MAX: usize = 4096;
/// Longest string in bytes.
pub const STRING_MAX: usize = 128 << 10;
/// Longest injected file in bytes.
pub const INJECT_MAX: usize = 16 << 20;

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the levels are named after themselves")]
pub enum LogLevel {
    Fatal = 0,
    #[default]
    Error = 1,
    Warning = 2,
    Info = 3,
    Debug = 4,
    Trace = 5,
}

impl LogLevel {
    /// The level with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Fatal,
            1 => Self::Error,
            2 => Self::Warning,
            3 => Self::Info,
            4 => Self::Debug,
            5 => Self::Trace,
            _ => return None,
        })
    }
}

/// What the host claims at start.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StartBlock {
    /// `SCONE_CONFIG_ID` without a one-time password.
    pub config_id: String,
    /// The one-time password after `@`.
    pub one_time_password: String,
    /// CAS host and attested port, `HOST:PORT`.
    pub cas_addr: String,
    /// LAS: `unix:/path` or `HOST:PORT`.
    pub las_addr: String,
    /// Second factor.
    pub access_token: String,
    /// Wanted log level; only DEBUG enclaves listen.
    pub log: LogLevel,
    /// Host arguments: the program's in `test` mode, else only for `@@N`.
    pub argv: Vec<Vec<u8>>,
    /// Host variables `NAME=VALUE`: the program's in `test` mode, else only for `\@\@NAME`.
    pub env: Vec<Vec<u8>>,
    /// Working directory; only `test` mode listens.
    pub cwd: Vec<u8>,
}

/// Arguments and variables may carry a user's secrets as well as the factors
/// do, so only their number is shown.
impl core::fmt::Debug for StartBlock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        struct Hidden(bool);
        impl core::fmt::Debug for Hidden {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(if self.0 { "[none]" } else { "[redacted]" })
            }
        }
        f.debug_struct("StartBlock")
            .field("config_id", &self.config_id)
            .field(
                "one_time_password",
                &Hidden(self.one_time_password.is_empty()),
            )
            .field("cas_addr", &self.cas_addr)
            .field("las_addr", &self.las_addr)
            .field("access_token", &Hidden(self.access_token.is_empty()))
            .field("log", &self.log)
            .field("argv", &self.argv.len())
            .field("env", &self.env.len())
            .field("cwd", &self.cwd.len())
            .finish()
    }
}

impl StartBlock {
    /// Encodes the block.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(MAGIC).u32(VERSION).u8(self.log as u8);
        for text in [
            &self.config_id,
            &self.one_time_password,
            &self.cas_addr,
            &self.las_addr,
            &self.access_token,
        ] {
            w.bytes(text.as_bytes());
        }
        w.bytes(&self.cwd);
        for list in [&self.argv, &self.env] {
            w.count(list.len());
            for item in list {
                w.bytes(item);
            }
        }
        w.finish()
    }

    /// Decodes a block.
    ///
    /// # Errors
    /// Anything out of bounds, text that is not UTF-8, NUL bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.array::<8>("magic")? != *MAGIC {
            return Err(DecodeError::Invalid {
                field: "magic",
                got: 0,
            });
        }
        let version = r.u32("version")?;
        if version != VERSION {
            return Err(DecodeError::Invalid {
                field: "version",
                got: version.into(),
            });
        }
        let level = r.u8("log level")?;
        let log = LogLevel::from_number(level).ok_or_else(|| DecodeError::Invalid {
            field: "log level",
            got: level.into(),
        })?;
        let config_id = text(&mut r, "config id")?;
        let one_time_password = text(&mut r, "one-time password")?;
        let cas_addr = text(&mut r, "CAS address")?;
        let las_addr = text(&mut r, "LAS address")?;
        let access_token = text(&mut r, "access token")?;
        let cwd = without_nul("working directory", r.bytes("working directory", 4096)?)?;
        let argv = list(&mut r, "argument")?;
        let env = list(&mut r, "environment")?;
        r.finish()?;
        Ok(Self {
            config_id,
            one_time_password,
            cas_addr,
            las_addr,
            access_token,
            log,
            argv,
            env,
            cwd,
        })
    }
}

fn text(r: &mut Reader<'_>, field: &'static str) -> Result<String, DecodeError> {
    let bytes = without_nul(field, r.bytes(field, 4096)?)?;
    String::from_utf8(bytes).map_err(|_| DecodeError::Invalid { field, got: 0 })
}

fn list(r: &mut Reader<'_>, field: &'static str) -> Result<Vec<Vec<u8>>, DecodeError> {
    let count = r.count(field, ENTRIES_MAX)?;
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        out.push(without_nul(field, r.bytes(field, STRING_MAX)?)?);
    }
    Ok(out)
}

fn without_nul(field: &'static str, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if bytes.contains(&0) {
        return Err(DecodeError::Invalid { field, got: 0 });
    }
    Ok(bytes.to_vec())
}

/// The root FSPF to mount: agent → kernel.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Mount {
    /// Path of the FSPF in the container.
    pub path: Vec<u8>,
    /// FSPF key.
    pub key: [u8; 32],
    /// FSPF tag.
    pub tag: [u8; 16],
}

impl core::fmt::Debug for Mount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Mount([redacted])")
    }
}

impl Mount {
    /// Encodes the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(&self.path).raw(&self.key).raw(&self.tag);
        w.finish()
    }

    /// Decodes the message.
    ///
    /// # Errors
    /// Anything out of bounds or a relative path.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let path = absolute(r.bytes("FSPF path", 4096)?)?;
        let key = r.array("FSPF key")?;
        let tag = r.array("FSPF tag")?;
        r.finish()?;
        Ok(Self { path, key, tag })
    }
}

/// A file that exists in enclave memory only: agent → kernel.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Inject {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub content: Vec<u8>,
}

impl core::fmt::Debug for Inject {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Inject([redacted])")
    }
}

impl Inject {
    /// Encodes the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(&self.path).u32(self.mode).bytes(&self.content);
        w.finish()
    }

    /// Decodes the message.
    ///
    /// # Errors
    /// Anything out of bounds, a relative path, bits above the permissions.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let path = absolute(r.bytes("path", 4096)?)?;
        let mode = r.u32("mode")?;
        if mode & !0o777 != 0 {
            return Err(DecodeError::Invalid {
                field: "mode",
                got: mode.into(),
            });
        }
        let content = r.bytes("content", INJECT_MAX)?.to_vec();
        r.finish()?;
        Ok(Self {
            path,
            mode,
            content,
        })
    }
}

fn absolute(path: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if path.first() != Some(&b'/') || path.contains(&0) {
        return Err(DecodeError::Invalid {
            field: "path",
            got: 0,
        });
    }
    Ok(path.to_vec())
}
