// SPDX-License-Identifier: Apache-2.0
//! Copies a layer and leaves entries out or replaces them.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::entry::{EntryKind, Metadata, TarEntry};
use super::write::{LayerWriter, NewEntry, WriteError};
use super::{Layer, LayerBlob};
use crate::compression::Level;
use crate::slice::FileSlice;

/// What becomes of an entry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Action {
    /// Left out.
    Drop,
    /// Copied byte for byte.
    Keep,
    /// A regular file with this content and metadata takes its place.
    Replace {
        /// Owner, permissions, time and extended attributes.
        metadata: Metadata,
        /// The new content.
        content: FileSlice,
    },
}

/// Copies `layer` into a new one at `level`, asking `decide` about each entry.
///
/// `entries` are all entries of the layer in their order, as
/// [`super::walk::Walker`] yields them; `decide` receives the entry's number.
///
/// # Errors
/// [`WriteError::DanglingLink`] if a kept hard link would lose the entry it
/// points to, so that content never moves by accident; [`WriteError::Io`].
pub fn rewrite(
    layer: &Layer,
    entries: &[TarEntry],
    level: Level,
    temp: &Path,
    mut decide: impl FnMut(usize, &TarEntry) -> Action,
) -> Result<LayerBlob, WriteError> {
    let whole = layer.content().map_err(io::Error::other)?;
    let mut writer = LayerWriter::new(temp, level)?;
    let mut dropped = HashSet::new();
    // Runs of kept entries are copied at once: most layers lose few entries.
    let mut run: Option<(u64, u64)> = None;
    for (number, entry) in entries.iter().enumerate() {
        let action = decide(number, entry);
        if matches!(action, Action::Keep) {
            if let EntryKind::HardLink { target } = &entry.kind
                && dropped.contains(target)
            {
                return Err(WriteError::DanglingLink {
                    link: entry.path.clone(),
                    target: target.clone(),
                });
            }
            dropped.remove(&entry.path);
            run = match run {
                Some((start, end)) if end == entry.record_start => Some((start, entry.record_end)),
                other => {
                    copy_run(&mut writer, &whole, other)?;
                    Some((entry.record_start, entry.record_end))
                }
            };
            continue;
        }
        copy_run(&mut writer, &whole, run.take())?;
        match action {
            Action::Drop => {
                dropped.insert(entry.path.clone());
            }
            Action::Keep => {}
            Action::Replace { metadata, content } => {
                let new = NewEntry::File {
                    size: content.len(),
                };
                writer.put(&entry.path, &new, &metadata, content.reader())?;
            }
        }
    }
    copy_run(&mut writer, &whole, run)?;
    writer.finish()
}

fn copy_run(
    writer: &mut LayerWriter,
    whole: &FileSlice,
    run: Option<(u64, u64)>,
) -> Result<(), WriteError> {
    let Some((start, end)) = run else {
        return Ok(());
    };
    let records = end
        .checked_sub(start)
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        .and_then(|length| {
            whole
                .slice(start, length)
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        })?;
    writer.copy_records(&records)
}
