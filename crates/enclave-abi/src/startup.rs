// SPDX-License-Identifier: Apache-2.0
//! The startup list: files that may run before any key is known, and where
//! their system calls are. Measured, so part of MRENCLAVE.

use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, Writer};

/// Version of the list.
pub const VERSION: u32 = 1;
/// Most files in a list.
pub const FILES_MAX: usize = 4096;
/// Most chunks of one file (16 GiB of 64 KiB chunks).
pub const CHUNKS_MAX: usize = 1 << 18;
/// Most system-call sites of one file.
pub const SITES_MAX: usize = 1 << 20;
/// Longest path in bytes.
pub const PATH_MAX: usize = 4096;

/// What a startup file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// The image's program.
    Program = 0,
    /// The program's ELF interpreter.
    Loader = 1,
    /// A shared object of the program's DT_NEEDED closure.
    Library = 2,
    /// The agent.
    Agent = 3,
}

/// One `syscall` instruction that a decoder found.
///
/// The kernel may replace the bytes `at - before .. at + 2 + after` by a jump to
/// a stub that runs the `before` bytes, the system call and the `after` bytes.
/// The builder guarantees that these bytes are whole instructions that do not
/// depend on their address and that nothing jumps between them; when
/// `before >= 5` only the bytes before the `syscall` are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Offset of the instruction in the file.
    pub at: u32,
    /// Bytes of whole instructions before it that the stub repeats.
    pub before: u8,
    /// Bytes of whole instructions after it that the stub repeats.
    pub after: u8,
}

impl Site {
    /// Most bytes that a stub repeats on either side.
    pub const REPLAY_MAX: u8 = 15;

    /// Two words, for formats that carry lists of `u32`.
    #[must_use]
    pub fn to_words(self) -> [u32; 2] {
        [self.at, u32::from(self.before) | u32::from(self.after) << 8]
    }

    /// Back from two words; `None` if a bound is exceeded.
    #[must_use]
    pub fn from_words([at, replay]: [u32; 2]) -> Option<Self> {
        let [before, after, 0, 0] = replay.to_le_bytes() else {
            return None;
        };
        let site = Self { at, before, after };
        site.is_bounded().then_some(site)
    }

    fn is_bounded(&self) -> bool {
        self.before <= Self::REPLAY_MAX
            && self.after <= Self::REPLAY_MAX
            && self.before + self.after >= 3
    }
}

/// One startup file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupFile {
    /// What it is for.
    pub role: Role,
    /// Absolute path inside the image, without symbolic links.
    pub path: Vec<u8>,
    /// Length in bytes.
    pub size: u64,
    /// Bytes per chunk.
    pub chunk_size: u32,
    /// `shieldfs::digest::chunk_hash` of each chunk.
    pub chunks: Vec<[u8; 32]>,
    /// System-call sites, ascending.
    pub sites: Vec<Site>,
}

/// The list, in the order given by the builder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartupList {
    /// The files.
    pub files: Vec<StartupFile>,
}

impl StartupList {
    /// The file at `path`.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<&StartupFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Encodes the list.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u32(VERSION).count(self.files.len());
        for file in &self.files {
            w.u8(file.role as u8)
                .bytes(&file.path)
                .u64(file.size)
                .u32(file.chunk_size);
            w.count(file.chunks.len());
            for hash in &file.chunks {
                w.raw(hash);
            }
            w.count(file.sites.len());
            for site in &file.sites {
                w.u32(site.at).u8(site.before).u8(site.after);
            }
        }
        w.finish()
    }

    /// Decodes a list.
    ///
    /// # Errors
    /// Anything out of bounds, an unknown role, a number of chunks that does
    /// not fit the size, sites out of order.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let version = r.u32("version")?;
        if version != VERSION {
            return Err(DecodeError::Invalid {
                field: "version",
                got: version.into(),
            });
        }
        let count = r.count("files", FILES_MAX)?;
        let mut files = Vec::with_capacity(count);
        for _ in 0..count {
            files.push(decode_file(&mut r)?);
        }
        r.finish()?;
        Ok(Self { files })
    }
}

fn decode_file(r: &mut Reader<'_>) -> Result<StartupFile, DecodeError> {
    let role = match r.u8("role")? {
        0 => Role::Program,
        1 => Role::Loader,
        2 => Role::Library,
        3 => Role::Agent,
        got => {
            return Err(DecodeError::Invalid {
                field: "role",
                got: got.into(),
            });
        }
    };
    let path = r.bytes("path", PATH_MAX)?.to_vec();
    let size = r.u64("size")?;
    let chunk_size = r.u32("chunk size")?;
    if !chunk_size.is_power_of_two() || !(4096..=1 << 24).contains(&chunk_size) {
        return Err(DecodeError::Invalid {
            field: "chunk size",
            got: chunk_size.into(),
        });
    }
    let count = r.count("chunks", CHUNKS_MAX)?;
    if count as u64 != size.div_ceil(chunk_size.into()) {
        return Err(DecodeError::Invalid {
            field: "chunks",
            got: count as u64,
        });
    }
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        chunks.push(r.array("chunk hash")?);
    }
    let count = r.count("sites", SITES_MAX)?;
    let mut sites: Vec<Site> = Vec::with_capacity(count);
    for _ in 0..count {
        let site = Site {
            at: r.u32("site")?,
            before: r.u8("site")?,
            after: r.u8("site")?,
        };
        let ordered = sites.last().is_none_or(|last| last.at < site.at);
        if !ordered || !site.is_bounded() {
            return Err(DecodeError::Invalid {
                field: "site",
                got: site.at.into(),
            });
        }
        sites.push(site);
    }
    Ok(StartupFile {
        role,
        path,
        size,
        chunk_size,
        chunks,
        sites,
    })
}
