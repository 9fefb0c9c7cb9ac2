// SPDX-License-Identifier: Apache-2.0
//! The manifest: the measured configuration of one image. Canonical: equal
//! values have equal bytes.

use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, Writer};

const MAGIC: &[u8; 8] = b"ENSCMFST";
/// Version of the format.
pub const VERSION: u32 = 1;
/// Longest path in bytes.
pub const PATH_MAX: usize = 4096;
/// Most entries of a list.
pub const ENTRIES_MAX: usize = 4096;
/// Longest argument or variable in bytes.
pub const STRING_MAX: usize = 128 << 10;

/// What may start the program. Rule S8: measured, so three different MRENCLAVEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StartMode {
    /// Nothing starts without a verified configuration from the CAS.
    Session = 0,
    /// Arguments, environment and directory come from this manifest.
    Standalone = 1,
    /// They come from the host; DEBUG enclaves only, no encrypted region.
    Test = 2,
}

/// Whether code may be loaded after start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Dlopen {
    /// Startup files only.
    None = 0,
    /// Also files of protected regions.
    Protected = 1,
    /// Anything; DEBUG enclaves only.
    Any = 2,
}

/// How files below a path are treated when no FSPF says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RegionClass {
    /// Served straight from the container, unprotected.
    HostPath = 0,
    /// In enclave memory, empty at start.
    Ephemeral = 1,
    /// Made by the kernel: /proc, /sys, /dev.
    Synthetic = 2,
}

/// One region of the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Absolute path; the region is this path and everything below.
    pub path: Vec<u8>,
    /// Treatment.
    pub class: RegionClass,
}

/// What a `standalone` program is given.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProgramConfig {
    /// Arguments, the first being the program's own name.
    pub argv: Vec<Vec<u8>>,
    /// Environment as `NAME=VALUE`.
    pub env: Vec<Vec<u8>>,
    /// Working directory.
    pub cwd: Vec<u8>,
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What may start the program.
    pub start_mode: StartMode,
    /// Bytes that programs may commit.
    pub heap: u64,
    /// Bytes of a program's first stack.
    pub stack: u64,
    /// Threads, including the kernel's first.
    pub threads: u32,
    /// Late loading of code.
    pub dlopen: Dlopen,
    /// Whether fork is allowed. Not implemented yet: must be false.
    pub fork: bool,
    /// The program's absolute path inside the image.
    pub program: Vec<u8>,
    /// The agent's absolute path; empty unless the mode is `session`.
    pub agent: Vec<u8>,
    /// Treatment of paths before and besides an FSPF.
    pub regions: Vec<Region>,
    /// SHA-256 of the CAS root key's SubjectPublicKeyInfo, when pinned.
    pub cas_pin: Option<[u8; 32]>,
    /// For `standalone` only.
    pub standalone: Option<ProgramConfig>,
}

impl Manifest {
    /// Encodes the manifest.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(MAGIC).u32(VERSION);
        w.u8(self.start_mode as u8)
            .u8(self.dlopen as u8)
            .u8(self.fork.into())
            .u8(0);
        w.u64(self.heap).u64(self.stack).u32(self.threads);
        w.bytes(&self.program).bytes(&self.agent);
        w.count(self.regions.len());
        for region in &self.regions {
            w.bytes(&region.path).u8(region.class as u8);
        }
        match &self.cas_pin {
            Some(pin) => w.u8(1).raw(pin),
            None => w.u8(0),
        };
        match &self.standalone {
            Some(config) => {
                w.u8(1);
                config.write(&mut w);
            }
            None => {
                w.u8(0);
            }
        }
        w.finish()
    }

    /// Decodes a manifest.
    ///
    /// # Errors
    /// Anything out of bounds or meaningless, or parts that contradict the start
    /// mode.
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
        let start_mode = match r.u8("start mode")? {
            0 => StartMode::Session,
            1 => StartMode::Standalone,
            2 => StartMode::Test,
            got => {
                return Err(DecodeError::Invalid {
                    field: "start mode",
                    got: got.into(),
                });
            }
        };
        let dlopen = match r.u8("dlopen")? {
            0 => Dlopen::None,
            1 => Dlopen::Protected,
            2 => Dlopen::Any,
            got => {
                return Err(DecodeError::Invalid {
                    field: "dlopen",
                    got: got.into(),
                });
            }
        };
        let fork = r.bool("fork")?;
        let pad = r.u8("padding")?;
        if fork || pad != 0 {
            return Err(DecodeError::Invalid {
                field: "fork",
                got: u64::from(pad),
            });
        }
        let heap = r.u64("heap")?;
        let stack = r.u64("stack")?;
        let threads = r.u32("threads")?;
        let program = absolute(&mut r, "program")?;
        let agent = r.bytes("agent", PATH_MAX)?.to_vec();
        let count = r.count("regions", ENTRIES_MAX)?;
        let mut regions = Vec::with_capacity(count);
        for _ in 0..count {
            let path = absolute(&mut r, "region")?;
            let class = match r.u8("region class")? {
                0 => RegionClass::HostPath,
                1 => RegionClass::Ephemeral,
                2 => RegionClass::Synthetic,
                got => {
                    return Err(DecodeError::Invalid {
                        field: "region class",
                        got: got.into(),
                    });
                }
            };
            regions.push(Region { path, class });
        }
        let cas_pin = if r.bool("CAS pin")? {
            Some(r.array("CAS pin")?)
        } else {
            None
        };
        let standalone = if r.bool("standalone")? {
            Some(ProgramConfig::read(&mut r)?)
        } else {
            None
        };
        r.finish()?;
        let has_agent = !agent.is_empty();
        if has_agent != (start_mode == StartMode::Session)
            || standalone.is_some() != (start_mode == StartMode::Standalone)
        {
            return Err(DecodeError::Invalid {
                field: "start mode",
                got: start_mode as u64,
            });
        }
        Ok(Self {
            start_mode,
            heap,
            stack,
            threads,
            dlopen,
            fork,
            program,
            agent,
            regions,
            cas_pin,
            standalone,
        })
    }
}

// Arguments and variables may be secrets of a session (rule S23).
impl core::fmt::Debug for ProgramConfig {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ProgramConfig([redacted])")
    }
}

impl ProgramConfig {
    /// Appends the configuration.
    pub fn write(&self, w: &mut Writer) {
        for list in [&self.argv, &self.env] {
            w.count(list.len());
            for item in list {
                w.bytes(item);
            }
        }
        w.bytes(&self.cwd);
    }

    /// Takes a configuration.
    ///
    /// # Errors
    /// Anything out of bounds, NUL bytes, a relative directory.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut list = |field| -> Result<Vec<Vec<u8>>, DecodeError> {
            let count = r.count(field, ENTRIES_MAX)?;
            let mut out = Vec::with_capacity(count);
            for _ in 0..count {
                let item = r.bytes(field, STRING_MAX)?;
                if item.contains(&0) {
                    return Err(DecodeError::Invalid { field, got: 0 });
                }
                out.push(item.to_vec());
            }
            Ok(out)
        };
        let argv = list("argument")?;
        let env = list("environment")?;
        Ok(Self {
            argv,
            env,
            cwd: absolute(r, "working directory")?,
        })
    }
}

fn absolute(r: &mut Reader<'_>, field: &'static str) -> Result<Vec<u8>, DecodeError> {
    let path = r.bytes(field, PATH_MAX)?;
    if path.first() != Some(&b'/') || path.contains(&0) {
        return Err(DecodeError::Invalid {
            field,
            got: path.first().copied().unwrap_or(0).into(),
        });
    }
    Ok(path.to_vec())
}
