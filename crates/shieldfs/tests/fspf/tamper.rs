// SPDX-License-Identifier: Apache-2.0

use shieldfs::backing::InPlace;
use shieldfs::key::{FspfKey, FspfTag};
use shieldfs::read::{ChunkError, Fspf, ReadError};

use crate::sample::{CHUNK, Refusal, Sample, key, meta, sealer, small};

#[test]
fn every_flipped_bit_of_the_tree_is_refused() {
    let sample = small();
    let whole = sample.read_all().unwrap();
    let mut changed = sample.clone();
    for bit in 0..sample.fspf.len() * 8 {
        changed.fspf[bit / 8] ^= 1 << (bit % 8);
        // Every byte of this file is needed for a full reading, so nothing may go unnoticed.
        assert!(changed.read_all().is_err(), "bit {bit}");
        changed.fspf[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(changed.read_all().unwrap(), whole);
}

#[test]
fn every_flipped_bit_of_the_chunks_is_refused() {
    let sample = small();
    for (path, bytes) in &sample.stored {
        for bit in 0..bytes.len() * 8 {
            // All bits of the short files, a sample of the long one.
            if bytes.len() > 1000 && bit % 61 != 0 {
                continue;
            }
            let mut changed = sample.clone();
            changed.stored.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let mut fspf = changed.open().unwrap();
            let entry = fspf.lookup(path).unwrap().unwrap();
            let error = changed.read_file(&mut fspf, &entry).unwrap_err();
            assert!(
                matches!(error, ReadError::Chunk(ChunkError::Mismatch { .. })),
                "{error}"
            );
        }
    }
}

#[test]
fn every_truncation_of_the_tree_is_refused() {
    let sample = small();
    for length in 0..sample.fspf.len() {
        let mut cut = sample.clone();
        cut.fspf.truncate(length);
        assert!(
            matches!(cut.read_all(), Err(ReadError::Truncated { .. })),
            "{length}"
        );
    }
}

#[test]
fn bytes_behind_the_end_change_nothing() {
    let sample = small();
    let mut longer = sample.clone();
    longer.fspf.extend_from_slice(&[1; 100]);
    for bytes in longer.stored.values_mut() {
        bytes.extend_from_slice(&[1; 100]);
    }
    assert_eq!(longer.read_all().unwrap(), sample.read_all().unwrap());
}

#[test]
fn wrong_key_and_wrong_tag_are_named() {
    let sample = small();
    let other = FspfKey::from_bytes([0x43; 32]);
    let refused = Fspf::open(&sample.fspf[..], &other, sample.tag).unwrap_err();
    assert_eq!(refused, ReadError::WrongKey);
    assert_eq!(refused.to_string(), "The FSPF key does not open this FSPF");
    let mut tag = sample.tag;
    tag.0[15] ^= 1;
    let refused = Fspf::open(&sample.fspf[..], &key(), tag).unwrap_err();
    assert!(matches!(refused, ReadError::WrongTag { .. }));
    let refused = Fspf::open(&b"ELF"[..], &key(), FspfTag([0; 16])).unwrap_err();
    assert!(matches!(refused, ReadError::Truncated { found: 3, .. }));
}

#[test]
fn an_older_tree_under_the_same_key_is_refused() {
    let old = small();
    let mut newer = sealer();
    newer
        .add_file(b"/x", meta(), &b"new"[..], &mut InPlace)
        .unwrap();
    let newer = newer.finish().unwrap();
    assert_ne!(newer.tag, old.tag);
    let refused = Fspf::open(&old.fspf[..], &key(), newer.tag).unwrap_err();
    assert!(matches!(refused, ReadError::WrongTag { .. }));
}

/// A file of four different chunks at `path`, in clear or encrypted.
fn four_chunks(path: &[u8]) -> Sample {
    let mut sealer = sealer();
    sealer.add_dir(b"/app", meta()).unwrap();
    let content: Vec<u8> = (0..4).flat_map(|chunk| [chunk; CHUNK as usize]).collect();
    let mut stored = Vec::new();
    sealer
        .add_file(path, meta(), &content, &mut stored)
        .unwrap();
    let sealed = sealer.finish().unwrap();
    Sample {
        fspf: sealed.bytes,
        tag: sealed.tag,
        stored: [(path.to_vec(), stored)].into(),
    }
}

fn read(sample: &Sample, path: &[u8]) -> Refusal {
    let mut fspf = sample.open().unwrap();
    let entry = fspf.lookup(path).unwrap().unwrap();
    sample.read_file(&mut fspf, &entry).unwrap_err()
}

#[test]
fn swapped_chunks_are_named() {
    for (path, length) in [(&b"/clear"[..], 4096), (b"/app/sealed", 4112)] {
        let mut sample = four_chunks(path);
        let stored = sample.stored.get_mut(path).unwrap();
        let (front, back) = stored.split_at_mut(2 * length);
        front[length..].swap_with_slice(&mut back[length..]);
        match read(&sample, path) {
            ReadError::Chunk(ChunkError::Swapped {
                chunk: 1,
                other: 3,
                start,
                end,
                ..
            }) => assert_eq!((start, end), (length as u64, 2 * length as u64)),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn truncated_files_and_punched_holes_are_named() {
    for path in [&b"/clear"[..], b"/app/sealed"] {
        let mut cut = four_chunks(path);
        let length = cut.stored[path].len();
        cut.stored.get_mut(path).unwrap().truncate(length - 1);
        let error = read(&cut, path);
        let ReadError::Chunk(ChunkError::Truncated { chunk: 3, end, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!(end, length as u64);

        let mut hole = four_chunks(path);
        hole.stored.get_mut(path).unwrap()[8224..12_288].fill(0);
        let error = read(&hole, path).to_string();
        assert!(error.contains("chunk 2, bytes 8"), "{error}");
    }
}

#[test]
fn content_of_another_path_or_build_is_refused() {
    let build = |content: &[u8]| {
        let mut sealer = sealer();
        sealer.add_dir(b"/app", meta()).unwrap();
        let mut sample = Sample {
            fspf: Vec::new(),
            tag: FspfTag([0; 16]),
            stored: Default::default(),
        };
        for (path, content) in [(&b"/app/a"[..], content), (b"/app/b", b"same length!")] {
            let sink = sample.stored.entry(path.to_vec()).or_default();
            sealer.add_file(path, meta(), content, sink).unwrap();
        }
        let sealed = sealer.finish().unwrap();
        (sample.fspf, sample.tag) = (sealed.bytes, sealed.tag);
        sample
    };
    let good = build(b"same length!");
    // Equal content under two names has nothing in common when sealed.
    assert_ne!(good.stored[&b"/app/a"[..]], good.stored[&b"/app/b"[..]]);

    let mut renamed = good.clone();
    let other = renamed.stored[&b"/app/b"[..]].clone();
    renamed.stored.insert(b"/app/a".to_vec(), other);
    let error = read(&renamed, b"/app/a");
    assert!(matches!(
        error,
        ReadError::Chunk(ChunkError::Mismatch { .. })
    ));

    let mut replayed = good.clone();
    replayed.stored = build(b"older bytes.").stored;
    let error = read(&replayed, b"/app/a");
    assert!(matches!(
        error,
        ReadError::Chunk(ChunkError::Mismatch { .. })
    ));
}

#[test]
fn a_chunk_behind_the_end_or_a_small_buffer_is_refused() {
    let sample = small();
    let mut fspf = sample.open().unwrap();
    let entry = fspf.lookup(b"/etc/passwd").unwrap().unwrap();
    let reader = fspf.open_file(&entry).unwrap();
    let stored = &sample.stored[&b"/etc/passwd"[..]];
    let mut buffer = vec![0; reader.buffer_len()];
    for index in [1, u64::MAX] {
        let refused = reader.read_chunk(&mut fspf, index, stored, &mut buffer);
        assert!(matches!(
            refused,
            Err(ReadError::Chunk(ChunkError::NoSuchChunk { .. }))
        ));
    }
    let refused = reader.read_chunk(&mut fspf, 0, stored, &mut buffer[..5]);
    assert!(matches!(
        refused,
        Err(ReadError::Chunk(ChunkError::Buffer { needed: 22, .. }))
    ));
}
