// SPDX-License-Identifier: Apache-2.0
//! Looking for strings where they must not be, as a thief of the image would.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::read::MultiGzDecoder;

use crate::native::MARKERS;

/// Every marker found in an OCI layout, with the blob that holds it: manifests,
/// configurations and layers, the latter decompressed.
///
/// # Errors
/// The layout cannot be read.
pub fn in_layout(dir: &Path) -> Result<BTreeSet<(String, &'static str)>> {
    let mut found = BTreeSet::new();
    let blobs = dir.join("blobs/sha256");
    for entry in
        fs::read_dir(&blobs).with_context(|| format!("while listing {}", blobs.display()))?
    {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for marker in in_file(&path)? {
            found.insert((name.clone(), marker));
        }
    }
    Ok(found)
}

/// Markers in a file, decompressed when it is gzip.
///
/// # Errors
/// The file cannot be read.
pub fn in_file(path: &Path) -> Result<BTreeSet<&'static str>> {
    let context = || format!("while searching {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut magic = [0; 2];
    let read = file.read(&mut magic).with_context(context)?;
    let file = BufReader::new(File::open(path).with_context(context)?);
    if magic.get(..read) == Some(&[0x1f, 0x8b]) {
        search(MultiGzDecoder::new(file)).with_context(context)
    } else {
        search(file).with_context(context)
    }
}

/// Markers in a stream.
fn search(mut stream: impl Read) -> std::io::Result<BTreeSet<&'static str>> {
    let longest = MARKERS.iter().map(|marker| marker.len()).max().unwrap_or(0);
    let mut found = BTreeSet::new();
    let mut window = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(found);
        }
        window.extend_from_slice(buffer.get(..read).unwrap_or_default());
        for marker in MARKERS {
            if contains(&window, marker.as_bytes()) {
                found.insert(marker);
            }
        }
        // A marker may straddle two reads.
        window.drain(..window.len().saturating_sub(longest));
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_across_two_reads_is_found() {
        let text = [b"x".repeat((1 << 20) - 5), MARKERS[0].as_bytes().to_vec()].concat();
        assert_eq!(
            search(text.as_slice()).unwrap(),
            BTreeSet::from([MARKERS[0]])
        );
        assert!(search(&text[..text.len() - 1]).unwrap().is_empty());
    }
}
