// SPDX-License-Identifier: Apache-2.0
//! Writers that hold the key but break the rules, and hostile pages.

extern crate std;

use std::convert::Infallible;
use std::string::ToString as _;
use std::vec;
use std::vec::Vec;

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use proptest::prelude::*;

use super::*;
use crate::backing::InPlace;
use crate::entry::{DeviceNumber, Meta};
use crate::region::Regions;
use crate::seal::{SealedFspf, Sealer};
use crate::xattr::Xattrs;

const CHUNK: u32 = 4096;

fn key() -> FspfKey {
    FspfKey::from_bytes([7; 32])
}

/// A tree of a single leaf, with something of everything.
fn sealed() -> SealedFspf {
    let regions = Regions::defaults().dir_encrypted(b"/app").unwrap();
    let mut sealer = Sealer::with_chunk_size(key(), regions, CHUNK).unwrap();
    let meta = Meta::with_mode(0o755);
    sealer.add_dir(b"/app", meta).unwrap();
    sealer
        .add_file(b"/app/f", meta, &b"text"[..], &mut InPlace)
        .unwrap();
    sealer
        .add_file(b"/g", meta, &vec![1; 9000], &mut InPlace)
        .unwrap();
    sealer.add_hard_link(b"/h", b"/g").unwrap();
    sealer.add_symlink(b"/s", meta, b"x").unwrap();
    let (major, minor) = (1, 2);
    sealer
        .add_char_device(b"/c", meta, DeviceNumber { major, minor })
        .unwrap();
    sealer.set_sites(b"/g", &[1, 2, 300, 0]).unwrap();
    let xattrs = Xattrs::from([(b"user.a".to_vec(), vec![3; 5000])]);
    sealer.set_xattrs(b"/g", &xattrs).unwrap();
    sealer.finish().unwrap()
}

fn header_of(bytes: &[u8]) -> Header {
    Header::parse(bytes[..HEADER_LEN].try_into().unwrap()).unwrap()
}

fn plaintext(bytes: &[u8], reference: &PageRef) -> Vec<u8> {
    fetch(&bytes, &key(), &header_of(bytes), reference).unwrap()
}

fn root_of(bytes: &[u8]) -> RootPage {
    let root = plaintext(bytes, &header_of(bytes).root);
    match Page::parse(&root, Role::Root, root[1], CHUNK) {
        Ok(Page::Root(root)) => root,
        other => panic!("{other:?}"),
    }
}

/// Appends pages to an FSPF as a key holder can: new leaf, new root page, new header, new tag.
fn reseal(
    mut bytes: Vec<u8>,
    change: impl FnOnce(&mut RootPage, &mut Vec<u8>),
) -> (Vec<u8>, FspfTag) {
    let mut root = root_of(&bytes);
    let mut leaf = plaintext(&bytes, &root.tree);
    change(&mut root, &mut leaf);
    root.tree = page::seal(&key(), &mut leaf, bytes.len() as u64);
    bytes.extend_from_slice(&leaf);
    let mut page = root.encode(0);
    let reference = page::seal(&key(), &mut page, bytes.len() as u64);
    bytes.extend_from_slice(&page);
    let header = Header {
        chunk_size: CHUNK,
        file_length: bytes.len() as u64,
        root: reference,
    };
    let header = header.encode();
    bytes[..HEADER_LEN].copy_from_slice(&header);
    (bytes, header::tag(&header))
}

/// Uses every operation on every path that the tree shows.
fn use_all(bytes: &[u8], tag: FspfTag) -> Result<(), ReadError<Infallible>> {
    let mut fspf = Fspf::open(bytes, &key(), tag)?;
    for path in [
        &b"/"[..],
        b"/app",
        b"/app/f",
        b"/g",
        b"/h",
        b"/s",
        b"/c",
        b"/zz",
    ] {
        let Some(entry) = fspf.lookup(path)? else {
            continue;
        };
        if *entry.kind() == Kind::Directory {
            fspf.read_dir(path, 0, |_| true)?;
        }
        fspf.xattrs(&entry)?;
        if let Some(file) = entry.file().cloned() {
            fspf.sites(&entry)?;
            fspf.chunk_list(&entry)?;
            let reader = fspf.open_file(&entry)?;
            for index in 0..file.geometry().chunk_count().min(4) {
                fspf.slot(&reader, index)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_tree_resealed_without_change_is_fine() {
    let (bytes, tag) = reseal(sealed().bytes, |_, _| ());
    assert_eq!(use_all(&bytes, tag), Ok(()));
}

#[test]
fn a_flipped_region_class_is_refused() {
    let good = sealed();
    let (bytes, tag) = reseal(good.bytes.clone(), |root, _| {
        root.regions = Regions::defaults();
    });
    // Under the pinned tag the other table is not even read.
    let refused = Fspf::open(&bytes[..], &key(), good.tag).unwrap_err();
    assert!(matches!(refused, ReadError::WrongTag { .. }));
    // And a tree that pins the contradiction itself is refused at the file.
    let mut fspf = Fspf::open(&bytes[..], &key(), tag).unwrap();
    let refused = fspf.lookup(b"/app/f").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "The FSPF contradicts itself about /app/f: its region asks for another protection"
    );
}

#[test]
fn a_digest_that_is_not_that_of_the_chunks_is_refused() {
    let good = sealed();
    let mut fspf = Fspf::open(&good.bytes[..], &key(), good.tag).unwrap();
    let digest = *fspf
        .lookup(b"/g")
        .unwrap()
        .unwrap()
        .file()
        .unwrap()
        .digest();
    let (bytes, tag) = reseal(good.bytes.clone(), |_, leaf| {
        let at = leaf.windows(32).position(|part| part == digest.0).unwrap();
        leaf[at] ^= 1;
    });
    let mut fspf = Fspf::open(&bytes[..], &key(), tag).unwrap();
    let entry = fspf.lookup(b"/g").unwrap().unwrap();
    assert!(matches!(
        fspf.open_file(&entry),
        Err(ReadError::Inconsistent { .. })
    ));
}

#[test]
fn a_link_to_no_file_is_refused() {
    let (bytes, tag) = reseal(sealed().bytes, |_, leaf| {
        // The link's record: kind 8, inode number, length 2, "/g".
        let at = leaf
            .windows(4)
            .position(|part| part == b"\x02\0/g")
            .unwrap();
        leaf[at + 3] = b's';
    });
    let mut fspf = Fspf::open(&bytes[..], &key(), tag).unwrap();
    assert!(matches!(
        fspf.lookup(b"/h"),
        Err(ReadError::Inconsistent { .. })
    ));
}

/// Multiplies in GCM's field: bit 0 is the top bit of byte 0 (NIST SP 800-38D, section 6.3).
fn multiply(x: u128, mut y: u128) -> u128 {
    let mut product = 0;
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= y;
        }
        let carry = y & 1;
        y >>= 1;
        if carry == 1 {
            y ^= 0xe1 << 120;
        }
    }
    product
}

#[test]
fn a_forgery_with_the_same_gcm_tag_is_refused() {
    let mut sealer =
        Sealer::with_chunk_size(key(), Regions::uniform(Class::Encrypted), CHUNK).unwrap();
    let mut stored = Vec::new();
    sealer
        .add_file(b"/f", Meta::with_mode(0o644), &vec![0; 64], &mut stored)
        .unwrap();
    let sealed = sealer.finish().unwrap();
    let mut fspf = Fspf::open(&sealed.bytes[..], &key(), sealed.tag).unwrap();
    let entry = fspf.lookup(b"/f").unwrap().unwrap();
    let reader = fspf.open_file(&entry).unwrap();
    let slot = fspf.slot(&reader, 0).unwrap();

    // Who holds the key knows GHASH's point H = AES(key, 0) and can change two neighbouring
    // blocks so that their contributions cancel: d in one, d * H in the next.
    let cipher = key().file_cipher(b"/f", reader.digest(), CHUNK);
    let mut block = [0; 16].into();
    aes::Aes256::new(&cipher.id.into()).encrypt_block(&mut block);
    let point = u128::from_be_bytes(block.into());
    let change = 0x0123_4567_89ab_cdef_u128;
    let mut forged = stored.clone();
    for (at, change) in [(0, change), (16, multiply(change, point))] {
        for (byte, change) in forged[at..at + 16].iter_mut().zip(change.to_be_bytes()) {
            *byte ^= change;
        }
    }
    assert_ne!(forged, stored);
    assert_eq!(forged[64..], stored[64..], "the GCM tag is the same");
    let aad = crate::cipher::chunk_aad(0, 64);
    let accepted = cipher.open(0, &aad, &mut forged.clone());
    assert_eq!(accepted, Ok(64), "GCM alone accepts the forgery");

    let refused = reader.open_chunk(&slot, &mut forged).unwrap_err();
    assert!(matches!(refused, ChunkError::Mismatch { chunk: 0, .. }));
    assert_eq!(reader.open_chunk(&slot, &mut stored), Ok(64));
}

/// The plaintexts of a leaf, a root page, a branch page and a blob branch.
fn pages() -> Vec<Vec<u8>> {
    let single = sealed().bytes;
    let root = plaintext(&single, &header_of(&single).root);
    let leaf = plaintext(&single, &root_of(&single).tree);
    let mut sealer = Sealer::with_chunk_size(key(), Regions::defaults(), CHUNK).unwrap();
    for number in 0..1000_u32 {
        let path = std::format!("/file-{number}");
        sealer
            .add_fifo(path.as_bytes(), Meta::with_mode(0))
            .unwrap();
    }
    let wide = sealer.finish().unwrap().bytes;
    let branch = plaintext(&wide, &root_of(&wide).tree);
    assert_eq!(branch[..2], [Role::Branch as u8, 1]);
    let mut blob_branch = page::start(Role::BlobBranch, 1);
    page::set_count(&mut blob_branch, 2);
    blob_branch.extend_from_slice(&[9; 2 * PageRef::LEN]);
    vec![leaf, root, branch, blob_branch]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn hostile_bytes_never_panic_as_pages(role in 0_u8..7, level in 0_u8..9, rest in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = [vec![role, level, 0, 0], rest].concat();
        let _ = page::check(&bytes, CHUNK);
    }

    #[test]
    fn mutated_pages_never_panic(
        which in 0_usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        std::thread_local! {
            static PAGES: Vec<Vec<u8>> = pages();
        }
        let mut bytes = PAGES.with(|pages| pages[which].clone());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = page::check(&bytes, CHUNK);
    }

    #[test]
    fn trees_of_a_careless_key_holder_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        std::thread_local! {
            static SEALED: SealedFspf = sealed();
        }
        let bytes = SEALED.with(|sealed| sealed.bytes.clone());
        let (bytes, tag) = reseal(bytes, |_, leaf| {
            for (at, value) in changes {
                let at = at.index(leaf.len());
                leaf[at] = value;
            }
        });
        let _ = use_all(&bytes, tag);
    }
}
