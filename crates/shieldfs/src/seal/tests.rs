// SPDX-License-Identifier: Apache-2.0
//! Rules that need a look inside: key and nonce pairs, golden bytes.

extern crate std;

use std::collections::BTreeMap as Map;
use std::fs;
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::backing::InPlace;
use crate::cipher::observed::{self, Sealing};
use crate::key::FspfKey;
use crate::page;
use crate::xattr::Xattrs;

const CHUNK: u32 = 4096;

fn sealer() -> Sealer {
    let regions = Regions::defaults().dir_encrypted(b"/app").unwrap();
    Sealer::with_chunk_size(FspfKey::from_bytes([0x42; 32]), regions, CHUNK).unwrap()
}

/// What one build seals, with one file of it given.
fn build(content: &[u8], xattr: &[u8]) -> Vec<Sealing> {
    observed::take();
    let mut sealer = sealer();
    sealer.add_dir(b"/app", Meta::with_mode(0o755)).unwrap();
    let meta = Meta::with_mode(0o644);
    for (path, content) in [(&b"/app/changing"[..], content), (b"/app/same", &[1; 9000])] {
        sealer
            .add_file(path, meta, content, &mut Vec::new())
            .unwrap();
    }
    let xattrs = Xattrs::from([(b"user.k".to_vec(), xattr.to_vec())]);
    sealer.set_xattrs(b"/app/same", &xattrs).unwrap();
    sealer.finish().unwrap();
    observed::take()
}

/// Panics if one key and nonce sealed two plaintexts; gives how many pairs there were.
fn check_pairs(builds: &[Vec<Sealing>]) -> usize {
    let mut plaintexts = Map::new();
    for (key, nonce, plaintext) in builds.iter().flatten() {
        let known = plaintexts.entry((*key, *nonce)).or_insert(*plaintext);
        assert_eq!(known, plaintext, "a key and nonce pair met two plaintexts");
    }
    plaintexts.len()
}

#[test]
fn builds_that_differ_in_one_byte_share_no_key_and_nonce_for_what_differs() {
    let mut content = std::vec![5_u8; 3 * 4096 + 1];
    let first = build(&content, b"v");
    // Three chunks and a byte, three chunks of the other file, a leaf and the root page.
    assert_eq!(first.len(), 4 + 3 + 2);
    let mut builds = std::vec![first];
    for at in [0, 4095, 4096, 3 * 4096] {
        content[at] ^= 1;
        let next = build(&content, b"v");
        // All four chunks of the changed file get a new key, even those that did not change, and
        // so do leaf and root; only the other file's three chunks are sealed as before.
        let shared = next
            .iter()
            .filter(|it| builds.iter().flatten().any(|old| old == *it));
        assert_eq!(shared.count(), 3);
        builds.push(next);
    }
    content.truncate(4096);
    builds.push(build(&content, b"v"));
    builds.push(build(&content, b"w"));
    assert_eq!(check_pairs(&builds), 3 + 5 * (4 + 2) + (1 + 2) + 2);
}

#[test]
fn equal_content_under_two_names_has_two_keys() {
    let sealings = build(&[1; 9000], b"v");
    let keys: Map<_, usize> = sealings.iter().fold(Map::new(), |mut keys, (key, ..)| {
        *keys.entry(*key).or_default() += 1;
        keys
    });
    let mut uses: Vec<usize> = keys.into_values().collect();
    uses.sort_unstable();
    assert_eq!(uses, [1, 1, 3, 3]);
}

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name]
        .iter()
        .collect()
}

/// Compares with a golden file; writes it instead if `ENSCONCE_BLESS` is set.
fn check_golden(name: &str, bytes: &[u8]) {
    let path = golden(name);
    if std::env::var_os("ENSCONCE_BLESS").is_some() {
        fs::write(&path, bytes).unwrap();
    }
    let wanted = fs::read(&path).unwrap();
    assert!(wanted == bytes, "{name} differs: the format changed");
}

/// One entry of every kind and a blob with pages of its own.
fn golden_tree() -> Sealer {
    let mut sealer = sealer();
    let meta = Meta {
        mode: 0o4751,
        uid: 1000,
        gid: 0x0102_0304,
        mtime_s: -2,
        mtime_ns: 3,
    };
    for dir in [&b"/app"[..], b"/tmp"] {
        sealer.add_dir(dir, meta).unwrap();
    }
    sealer
        .add_file(b"/app/f", meta, &b"sealed"[..], &mut InPlace)
        .unwrap();
    sealer
        .add_file(b"/f", meta, &std::vec![8; 5000], &mut InPlace)
        .unwrap();
    sealer.add_hard_link(b"/g", b"/f").unwrap();
    sealer.add_symlink(b"/l", meta, b"f").unwrap();
    sealer.add_fifo(b"/p", meta).unwrap();
    sealer.add_socket(b"/s", meta).unwrap();
    let (major, minor) = (1, 3);
    sealer
        .add_char_device(b"/c", meta, DeviceNumber { major, minor })
        .unwrap();
    sealer
        .add_block_device(b"/d", meta, DeviceNumber { major, minor })
        .unwrap();
    let xattrs = Xattrs::from([(b"user.long".to_vec(), std::vec![6; 20_000])]);
    sealer.set_xattrs(b"/app/f", &xattrs).unwrap();
    sealer.set_sites(b"/f", &[1, 200, 70_000, 0x0503]).unwrap();
    sealer
}

#[test]
fn bytes_of_the_format_are_golden() {
    let sealer = golden_tree();
    check_golden("regions.bin", &sealer.regions().encode());
    let key = sealer.key.clone();
    let sealed = sealer.finish().unwrap();
    check_golden("tree.fspf", &sealed.bytes);
    check_golden("tree.header", &sealed.bytes[..crate::header::HEADER_LEN]);
    check_golden("tree.tag", std::format!("{}\n", sealed.tag).as_bytes());

    let header = crate::header::Header::parse(sealed.bytes[..128].try_into().unwrap()).unwrap();
    let plain = |reference: &page::PageRef| {
        let start = usize::try_from(reference.offset).unwrap();
        let length = reference.checked_length().unwrap();
        let mut bytes = sealed.bytes[start..start + length].to_vec();
        page::open(&key, reference, &mut bytes).unwrap();
        bytes
    };
    let root = plain(&header.root);
    check_golden("tree.root-page", &root);
    let Ok(page::Page::Root(root)) = page::Page::parse(&root, page::Role::Root, 0, CHUNK) else {
        panic!("the root page is one level above a leaf");
    };
    check_golden("tree.leaf-page", &plain(&root.tree));
}

#[test]
fn a_golden_tree_can_be_read() {
    let bytes = fs::read(golden("tree.fspf")).unwrap();
    let tag: String = fs::read_to_string(golden("tree.tag")).unwrap();
    let key = FspfKey::from_bytes([0x42; 32]);
    let tag = tag.trim().parse().unwrap();
    let mut fspf = crate::read::Fspf::open(&bytes[..], &key, tag).unwrap();
    assert_eq!(fspf.entry_count(), 11);
    let entry = fspf.lookup(b"/app/f").unwrap().unwrap();
    assert_eq!(fspf.xattrs(&entry).unwrap()[&b"user.long"[..]], [6; 20_000]);
    let entry = fspf.lookup(b"/g").unwrap().unwrap();
    assert_eq!(entry.nlink(), 2);
    assert_eq!(fspf.sites(&entry).unwrap(), [1, 200, 70_000, 0x0503]);
}
