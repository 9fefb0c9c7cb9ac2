// SPDX-License-Identifier: Apache-2.0
//! From a file's plaintext to its stored form.

use alloc::vec;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::{AddFileError, SealError};
use crate::backing::{Sink, Source, fill};
use crate::cipher::{OVERHEAD, chunk_aad};
use crate::digest::{ChunkList, FileDigester, Geometry, sealed_chunk_hash};
use crate::key::FspfKey;
use crate::path::PathText;
use crate::region::Storage;

/// A file's hashes and stored size.
pub(super) struct Stored {
    pub(super) list: ChunkList,
    /// Hashes of the stored chunks, 32 bytes each.
    pub(super) hashes: Vec<u8>,
    pub(super) size: u64,
}

pub(super) fn store<S: Source + ?Sized, K: Sink + ?Sized>(
    key: &FspfKey,
    path: &[u8],
    chunk_size: u32,
    storage: Storage,
    source: &S,
    sink: &mut K,
) -> Result<Stored, AddFileError<S::Error, K::Error>> {
    let geometry = Geometry::new(source.size(), chunk_size).map_err(SealError::Size)?;
    // Small files, which are most, get small buffers.
    let longest = geometry.chunk_len(0).unwrap_or(0);
    let room = usize::try_from(longest).unwrap_or(usize::MAX);
    let mut buffer = Zeroizing::new(vec![0; room.saturating_add(OVERHEAD)]);
    let mut digester = FileDigester::new(chunk_size).map_err(SealError::Size)?;
    for index in 0..geometry.chunk_count() {
        let chunk = read_chunk(path, geometry, index, source, &mut buffer)?;
        digester.update(chunk).map_err(SealError::Size)?;
        if storage == Storage::Authenticated {
            put(path, sink, chunk)?;
        }
    }
    let list = digester.finish();
    if storage == Storage::Authenticated {
        return Ok(Stored {
            hashes: list.hashes().as_flattened().to_vec(),
            size: list.size(),
            list,
        });
    }

    // The key depends on the whole plaintext, so the file is read a second time. A source that
    // changed in between must not get anything encrypted under this key: each chunk is compared
    // with the first reading before it is sealed.
    let cipher = key.file_cipher(path, &list.digest(), chunk_size);
    let mut hashes = Vec::with_capacity(list.hashes().as_flattened().len());
    let mut size = 0_u64;
    for index in 0..geometry.chunk_count() {
        let chunk = read_chunk(path, geometry, index, source, &mut buffer)?;
        if list.verify(index, chunk).is_err() {
            return Err(changed(path, index));
        }
        let tag = cipher.seal(index, &chunk_aad(index, geometry.size()), chunk);
        let length = chunk.len();
        let Some(sealed) = buffer.get_mut(..length.saturating_add(OVERHEAD)) else {
            return Err(changed(path, index));
        };
        if let Some(end) = sealed.get_mut(length..) {
            end.copy_from_slice(&tag);
        }
        hashes.extend_from_slice(&sealed_chunk_hash(sealed));
        put(path, sink, sealed)?;
        size = size.saturating_add(sealed.len() as u64);
    }
    Ok(Stored { list, hashes, size })
}

/// Reads one whole chunk of the plaintext to the front of the buffer.
fn read_chunk<'a, S: Source + ?Sized, W: core::fmt::Debug + core::fmt::Display>(
    path: &[u8],
    geometry: Geometry,
    index: u64,
    source: &S,
    buffer: &'a mut [u8],
) -> Result<&'a mut [u8], AddFileError<S::Error, W>> {
    let place = geometry.chunk_start(index).zip(geometry.chunk_len(index));
    let (start, length) = place.ok_or_else(|| changed(path, index))?;
    let chunk = usize::try_from(length)
        .ok()
        .and_then(|length| buffer.get_mut(..length))
        .ok_or_else(|| changed(path, index))?;
    let read = fill(source, start, chunk).map_err(|error| AddFileError::Read {
        path: PathText::new(path),
        error,
    })?;
    if read != chunk.len() {
        return Err(changed(path, index));
    }
    Ok(chunk)
}

fn put<R: core::fmt::Debug + core::fmt::Display, K: Sink + ?Sized>(
    path: &[u8],
    sink: &mut K,
    bytes: &[u8],
) -> Result<(), AddFileError<R, K::Error>> {
    sink.write(bytes).map_err(|error| AddFileError::Write {
        path: PathText::new(path),
        error,
    })
}

fn changed<R, W>(path: &[u8], chunk: u64) -> AddFileError<R, W>
where
    R: core::fmt::Debug + core::fmt::Display,
    W: core::fmt::Debug + core::fmt::Display,
{
    AddFileError::Changed {
        path: PathText::new(path),
        chunk,
    }
}
