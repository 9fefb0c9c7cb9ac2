// SPDX-License-Identifier: Apache-2.0
//! Layers in the cache: their entries, and what is known about their files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use enclave_abi::codec::{DecodeError, Reader, Writer};
use enclave_abi::startup::{SITES_MAX, Site};
use oci::layer::entry::{EntryKind, Metadata, TarEntry, Timestamp, Xattrs};
use oci::layer::recall::{Contents, LayerKey, Memory, Recalled};
use oci::path::{MAX_PATH, RootPath};
use oci::root::{FileData, RootView, Selection};
use oci::slice::FileSlice;
use shieldfs::digest::{ChunkList, HASH_LEN};

use super::{Cache, Name};
use crate::convert::facts::{Facts, Known, LookError};

/// Bounds of what is believed of a genuine entry; more than any image has.
const ENTRIES_MAX: usize = 4_000_000;
const CHUNKS_MAX: usize = 1 << 24;
const XATTRS_MAX: usize = 4096;
const XATTR_MAX: usize = 1 << 20;
/// Largest file whose content is kept, in bytes.
const FILE_MAX: u64 = 256 << 20;

/// What is known about files of a layer, by offset and size.
type Files = BTreeMap<(u64, u64), Arc<Known>>;

/// A layer as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    size: u64,
    entries: Vec<TarEntry>,
    files: Files,
}

/// The cache as an image's reader sees it. Remembers what it told.
#[derive(Debug)]
pub(crate) struct Layers {
    cache: Option<Arc<Cache>>,
    temp: PathBuf,
    told: Mutex<HashMap<LayerKey, Files>>,
}

impl Cache {
    fn layer(&self, key: &LayerKey) -> Name {
        self.name("layer", &key_parts(key))
    }

    fn file(&self, key: &LayerKey, offset: u64, size: u64) -> Name {
        let place = [offset.to_le_bytes(), size.to_le_bytes()].concat();
        let [digest, diff_id, compression] = key_parts(key);
        self.name("file", &[digest, diff_id, compression, &place])
    }
}

fn key_parts(key: &LayerKey) -> [&[u8]; 3] {
    let compression = key.compression.media_type().as_bytes();
    [key.digest.as_bytes(), key.diff_id.as_bytes(), compression]
}

impl Layers {
    /// Layers in `cache`, or none.
    pub(crate) fn new(cache: Option<Arc<Cache>>, temp: &Path) -> Self {
        Self {
            cache,
            temp: temp.to_owned(),
            told: Mutex::default(),
        }
    }

    /// The cache itself.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.cache.as_deref()
    }

    /// What is known about a program of our own, looked at once per build.
    ///
    /// # Errors
    /// [`LookError`] if it is none.
    pub(crate) fn code(&self, bytes: &[u8]) -> Result<Known, LookError> {
        let Some(cache) = &self.cache else {
            return Known::of_code(bytes);
        };
        let name = cache.name("code", &[digest(&SHA256, bytes).as_ref()]);
        let kept = cache.load(&name).and_then(|kept| {
            let mut r = Reader::new(&kept);
            let known = decode_known(&mut r, bytes.len() as u64).ok()?;
            r.finish().ok().map(|()| known)
        });
        if let Some(known) = kept {
            return Ok(known);
        }
        let known = Known::of_code(bytes)?;
        let mut w = Writer::new();
        encode_known(&mut w, &known);
        cache.store(&name, &w.finish());
        Ok(known)
    }

    /// What is known about the files of recalled layers.
    pub(crate) fn teach(&self, view: &RootView, facts: &mut Facts) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, layer) in view.layers().iter().enumerate() {
            let files = match layer.recalled_entries() {
                Some(_) => told.get(&layer.key()),
                None => None,
            };
            for ((offset, size), known) in files.into_iter().flatten() {
                let data = FileData {
                    layer: number,
                    offset: *offset,
                    size: *size,
                };
                facts.share(data, Arc::clone(known));
            }
        }
    }

    /// Keeps what is new about layers that were used again as they are, and
    /// the content of `needed` files in them.
    pub(crate) fn remember(
        &self,
        view: &RootView,
        selection: &Selection,
        facts: &Facts,
        needed: &[FileData],
    ) {
        let Some(cache) = &self.cache else {
            return;
        };
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut has_grown = false;
        for (number, layer) in view.layers().iter().enumerate() {
            if !selection.is_clean(number) {
                continue;
            }
            let key = layer.key();
            let files: Files = facts
                .iter()
                .filter(|(data, _)| data.layer == number)
                .map(|(data, known)| ((data.offset, data.size), Arc::clone(known)))
                .collect();
            let known_before = layer.recalled_entries().and_then(|_| told.get(&key));
            if known_before.is_none_or(|before| before.len() < files.len()) {
                let seen = Seen {
                    size: layer.size(),
                    entries: view.entries(number).cloned().collect(),
                    files,
                };
                cache.store(&cache.layer(&key), &seen.encode());
                has_grown = true;
            }
            let needed = needed.iter().filter(|data| data.layer == number);
            for data in needed.filter(|data| data.size <= FILE_MAX) {
                let name = cache.file(&key, data.offset, data.size);
                if !cache.has(&name)
                    && let Ok(content) = view.content(data)
                    && let Ok(bytes) = content.read_all(FILE_MAX)
                {
                    cache.store(&name, &bytes);
                    has_grown = true;
                }
            }
        }
        if has_grown {
            cache.forget_oldest();
        }
    }
}

impl Memory for Layers {
    fn recall(&self, key: &LayerKey) -> Option<Recalled> {
        let cache = self.cache.as_ref()?;
        let bytes = cache.load(&cache.layer(key))?;
        // What is genuine was written by this build; still, nothing is
        // believed that does not parse.
        let seen = Seen::decode(&bytes).ok()?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(*key, seen.files);
        Some(Recalled {
            size: seen.size,
            entries: seen.entries,
            contents: Box::new(Kept {
                cache: Arc::clone(cache),
                key: *key,
                temp: self.temp.clone(),
                loaded: Mutex::default(),
            }),
        })
    }
}

/// Content of files that were needed before.
#[derive(Debug)]
struct Kept {
    cache: Arc<Cache>,
    key: LayerKey,
    temp: PathBuf,
    loaded: Mutex<HashMap<(u64, u64), FileSlice>>,
}

impl Contents for Kept {
    fn at(&self, offset: u64, size: u64) -> Option<FileSlice> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(content) = loaded.get(&(offset, size)) {
            return Some(content.clone());
        }
        let bytes = self.cache.load(&self.cache.file(&self.key, offset, size))?;
        // A private copy, because others may change the cache's file.
        let content = FileSlice::spool(&self.temp, bytes.as_slice()).ok()?;
        loaded.insert((offset, size), content.clone());
        Some(content)
    }
}

impl Seen {
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(self.size).count(self.entries.len());
        for entry in &self.entries {
            encode_entry(&mut w, entry);
        }
        w.count(self.files.len());
        for ((offset, size), known) in &self.files {
            w.u64(*offset).u64(*size);
            encode_known(&mut w, known);
        }
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let size = r.u64("layer size")?;
        let count = r.count("entries", ENTRIES_MAX)?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(decode_entry(&mut r)?);
        }
        let mut files = Files::new();
        for _ in 0..r.count("files", ENTRIES_MAX)? {
            let (offset, size) = (r.u64("offset")?, r.u64("size")?);
            files.insert((offset, size), Arc::new(decode_known(&mut r, size)?));
        }
        r.finish()?;
        Ok(Self {
            size,
            entries,
            files,
        })
    }
}

fn invalid(field: &'static str, got: u64) -> DecodeError {
    DecodeError::Invalid { field, got }
}

fn encode_known(w: &mut Writer, known: &Known) {
    w.u32(known.list.chunk_size());
    w.count(known.list.hashes().len());
    w.raw(known.list.hashes().as_flattened());
    w.count(known.sites.len());
    for site in &known.sites {
        let [at, replay] = site.to_words();
        w.u32(at).u32(replay);
    }
}

fn decode_known(r: &mut Reader<'_>, size: u64) -> Result<Known, DecodeError> {
    let chunk_size = r.u32("chunk size")?;
    let count = r.count("chunks", CHUNKS_MAX)?;
    let hashes = r.raw("chunks", count.saturating_mul(HASH_LEN))?;
    let hashes = hashes.as_chunks::<HASH_LEN>().0.to_vec();
    let list = ChunkList::new(size, chunk_size, hashes).map_err(|_| invalid("chunks", size))?;
    let mut sites = Vec::new();
    for _ in 0..r.count("sites", SITES_MAX)? {
        let words = [r.u32("site")?, r.u32("site")?];
        sites.push(Site::from_words(words).ok_or_else(|| invalid("site", size))?);
    }
    Ok(Known { list, sites })
}

fn encode_entry(w: &mut Writer, entry: &TarEntry) {
    let metadata = &entry.metadata;
    w.bytes(entry.path.as_bytes());
    w.u64(entry.record_start).u64(entry.record_end);
    w.u32(metadata.mode).u32(metadata.uid).u32(metadata.gid);
    w.u64(metadata.mtime.seconds.cast_unsigned())
        .u32(metadata.mtime.nanoseconds)
        .count(metadata.xattrs.len());
    for (name, value) in &metadata.xattrs {
        w.bytes(name).bytes(value);
    }
    match &entry.kind {
        EntryKind::Directory => w.u8(0),
        EntryKind::File { offset, size } => w.u8(1).u64(*offset).u64(*size),
        EntryKind::Symlink { target } => w.u8(2).bytes(target),
        EntryKind::HardLink { target } => w.u8(3).bytes(target.as_bytes()),
        EntryKind::Fifo => w.u8(4),
        EntryKind::CharDevice { major, minor } => w.u8(5).u32(*major).u32(*minor),
        EntryKind::BlockDevice { major, minor } => w.u8(6).u32(*major).u32(*minor),
        // Not known here, so the layer is read again next time.
        _ => w.u8(u8::MAX),
    };
}

fn decode_entry(r: &mut Reader<'_>) -> Result<TarEntry, DecodeError> {
    let path = path(r, "path")?;
    let (record_start, record_end) = (r.u64("record")?, r.u64("record")?);
    let (mode, uid, gid) = (r.u32("mode")?, r.u32("owner")?, r.u32("group")?);
    let mtime = Timestamp {
        seconds: r.u64("time")?.cast_signed(),
        nanoseconds: r.u32("time")?,
    };
    let mut xattrs = Xattrs::new();
    for _ in 0..r.count("attributes", XATTRS_MAX)? {
        let name = r.bytes("attribute", XATTR_MAX)?.to_vec();
        xattrs.insert(name, r.bytes("attribute", XATTR_MAX)?.to_vec());
    }
    let kind = match r.u8("kind")? {
        0 => EntryKind::Directory,
        1 => EntryKind::File {
            offset: r.u64("offset")?,
            size: r.u64("size")?,
        },
        2 => EntryKind::Symlink {
            target: r.bytes("target", MAX_PATH)?.to_vec(),
        },
        3 => EntryKind::HardLink {
            target: self::path(r, "target")?,
        },
        4 => EntryKind::Fifo,
        5 => EntryKind::CharDevice {
            major: r.u32("device")?,
            minor: r.u32("device")?,
        },
        6 => EntryKind::BlockDevice {
            major: r.u32("device")?,
            minor: r.u32("device")?,
        },
        other => return Err(invalid("kind", other.into())),
    };
    Ok(TarEntry {
        path,
        kind,
        metadata: Metadata {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        },
        record_start,
        record_end,
    })
}

fn path(r: &mut Reader<'_>, field: &'static str) -> Result<RootPath, DecodeError> {
    RootPath::parse(r.bytes(field, MAX_PATH)?).map_err(|_| invalid(field, 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen() -> Seen {
        let at = |path: &str| RootPath::parse(path).expect("path");
        let kinds = [
            EntryKind::Directory,
            EntryKind::File {
                offset: 512,
                size: 70_000,
            },
            EntryKind::Symlink {
                target: b"\xff/../x".to_vec(),
            },
            EntryKind::HardLink { target: at("/b") },
            EntryKind::Fifo,
            EntryKind::CharDevice { major: 1, minor: 3 },
            EntryKind::BlockDevice {
                major: 8,
                minor: u32::MAX,
            },
        ];
        let entries = kinds
            .into_iter()
            .enumerate()
            .map(|(number, kind)| TarEntry {
                path: at(&format!("/{number}")),
                kind,
                metadata: Metadata {
                    mode: 0o4755,
                    uid: 1,
                    gid: 2,
                    mtime: Timestamp {
                        seconds: -5,
                        nanoseconds: 7,
                    },
                    xattrs: Xattrs::from([(b"user.a".to_vec(), vec![0, 1])]),
                },
                record_start: number as u64 * 512,
                record_end: number as u64 * 512 + 512,
            });
        let list = ChunkList::new(70_000, 65_536, vec![[1; 32], [2; 32]]).expect("list");
        let sites = vec![Site {
            at: 77,
            before: 2,
            after: 3,
        }];
        Seen {
            size: 1 << 20,
            entries: entries.collect(),
            files: Files::from([((512, 70_000), Arc::new(Known { list, sites }))]),
        }
    }

    #[test]
    fn layers_come_back_as_they_were_seen() {
        let seen = seen();
        assert_eq!(Seen::decode(&seen.encode()), Ok(seen));
    }

    proptest! {
        #[test]
        fn damaged_layers_never_panic(at in any::<prop::sample::Index>(), value in any::<u8>(), keep in any::<prop::sample::Index>()) {
            let mut bytes = seen().encode();
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = Seen::decode(&bytes);
            let keep = keep.index(bytes.len());
            prop_assert!(Seen::decode(&seen().encode()[..keep]).is_err());
        }
    }
}
