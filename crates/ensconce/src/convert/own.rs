// SPDX-License-Identifier: Apache-2.0
//! The converter's own layers. What is the same in every conversion of a
//! program lies in a layer of its own: registries store it once, and it is
//! compressed once.

use std::io;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use oci::compression::Level;
use oci::digest::Digest;
use oci::layer::LayerBlob;
use oci::layer::entry::Metadata;
use oci::layer::recall::LayerKey;
use oci::layer::write::{LayerWriter, NewEntry, WriteError};
use oci::path::RootPath;
use oci::slice::FileSlice;

use super::assemble::Parts;
use super::regions::{FSPF_DIR, OWN};

type Item<'a> = (RootPath, u32, Content<'a>);

enum Content<'a> {
    Bytes(&'a [u8]),
    Directory,
    LinkTo(RootPath),
    Slice(FileSlice),
}

/// Launcher, agent and the program at its new place.
pub(super) fn runtime(
    parts: &Parts<'_>,
    level: Level,
    temp: &Path,
) -> Result<LayerBlob, WriteError> {
    let name = parts.cache.map(|cache| {
        let startup = &parts.startup.list.files;
        let hashes = startup.iter().flat_map(|file| &file.chunks);
        let hashes: Vec<u8> = hashes.flatten().copied().collect();
        cache.name(
            "blob",
            &[
                format!("{level:?}").as_bytes(),
                parts.binary.path.as_bytes(),
                parts.startup.program.as_bytes(),
                // Of the agent and the program among others.
                &hashes,
                digest(&SHA256, parts.launcher).as_ref(),
            ],
        )
    });
    let cached = parts.cache.zip(name.as_ref());
    if let Some(blob) = cached.and_then(|(cache, name)| cache.load(name))
        && let Some((digest, rest)) = blob.split_first_chunk()
        && let Some((diff_id, stored)) = rest.split_first_chunk()
    {
        let key = LayerKey {
            digest: Digest::from_bytes(*digest),
            diff_id: Digest::from_bytes(*diff_id),
            compression: level.compression(),
        };
        return Ok(LayerBlob::kept(&key, FileSlice::spool(temp, stored)?));
    }
    let program = parts.view.content(&parts.binary.data)?;
    // The launcher stands in for the program, so that naming the program
    // as entrypoint starts the enclave. It is stored once.
    let launch = own("launch")?;
    let binary = parts.binary.path.clone();
    let (first, second) = if launch < binary {
        (launch, binary)
    } else {
        (binary, launch)
    };
    let mut items: Vec<Item<'_>> = vec![
        (own("agent")?, 0o755, Content::Bytes(parts.agent)),
        (
            parts.startup.program.clone(),
            0o755,
            Content::Slice(program),
        ),
        (second, 0o755, Content::LinkTo(first.clone())),
        (first, 0o755, Content::Bytes(parts.launcher)),
    ];
    let mut above = parts.startup.program.parent();
    while let Some(directory) = above.filter(|path| !path.is_root()) {
        above = directory.parent();
        items.push((directory, 0o755, Content::Directory));
    }
    let layer = write(items, level, temp)?;
    if let Some((cache, name)) = cached {
        let mut blob = layer.digest().as_bytes().to_vec();
        blob.extend(layer.diff_id().as_bytes());
        blob.extend(layer.stored().read_all(layer.stored_size())?);
        cache.store(name, &blob);
    }
    Ok(layer)
}

/// The enclave, its signature, and the tree of protected files.
pub(super) fn enclave(
    parts: &Parts<'_>,
    level: Level,
    temp: &Path,
) -> Result<LayerBlob, WriteError> {
    let enclave = parts.enclave;
    let items: Vec<Item<'_>> = vec![
        (parse(OWN)?, 0o755, Content::Directory),
        (
            own("enclave.img")?,
            0o644,
            Content::Bytes(enclave.image.bytes()),
        ),
        (
            own("enclave.img.sig")?,
            0o644,
            Content::Bytes(&enclave.signature),
        ),
        (parse(FSPF_DIR)?, 0o755, Content::Directory),
        (
            parse(&format!("{FSPF_DIR}/fs.fspf"))?,
            0o644,
            Content::Bytes(&parts.sealed.fspf.bytes),
        ),
    ];
    write(items, level, temp)
}

fn parse(text: &str) -> Result<RootPath, WriteError> {
    RootPath::parse(text).map_err(|error| WriteError::from(io::Error::other(error)))
}

fn own(name: &str) -> Result<RootPath, WriteError> {
    parse(&format!("{OWN}/{name}"))
}

fn write(mut items: Vec<Item<'_>>, level: Level, temp: &Path) -> Result<LayerBlob, WriteError> {
    items.sort_by(|(a, _, _), (b, _, _)| a.cmp(b));
    let mut layer = LayerWriter::new(temp, level)?;
    for (path, mode, content) in &items {
        let metadata = Metadata::of_root(*mode);
        match content {
            Content::Bytes(bytes) => {
                let size = bytes.len() as u64;
                layer.append(path, &NewEntry::File { size }, &metadata, *bytes)?;
            }
            Content::Directory => {
                layer.append(path, &NewEntry::Directory, &metadata, io::empty())?;
            }
            Content::LinkTo(target) => {
                layer.append(path, &NewEntry::HardLink { target }, &metadata, io::empty())?;
            }
            Content::Slice(slice) => {
                let size = slice.len();
                layer.append(path, &NewEntry::File { size }, &metadata, slice.reader())?;
            }
        }
    }
    layer.finish()
}
