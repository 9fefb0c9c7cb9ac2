// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;
use shieldfs::backing::{Backing, InPlace, Source};
use shieldfs::digest::FileDigester;
use shieldfs::entry::{FileType, Kind, Meta};
use shieldfs::region::{Class, Regions, Storage};
use shieldfs::seal::{AddFileError, SealError, Sealer};
use shieldfs::xattr::Xattrs;

use crate::sample::{CHUNK, Sample, Stored, key, meta, sealer, small};

#[test]
fn reads_back_every_kind_of_entry() {
    let sample = small();
    let seen = sample.read_all().unwrap();
    assert_eq!(seen.len(), 15);
    let at = |path: &[u8]| &seen[path];
    assert_eq!(at(b"/etc/passwd").content, b"root:x:0:0::/:/bin/sh\n");
    assert_eq!(*at(b"/etc/passwd").entry.meta(), meta());
    assert_eq!(at(b"/etc/passwd").xattrs[&b"user.k"[..]], b"v");
    assert_eq!(at(b"/etc/empty").content, b"");
    assert_eq!(at(b"/app/secret").content, b"the recipe");
    assert_eq!(at(b"/app/secret").sites, [3, 0x0300, 4_000_000_000, 5]);
    assert_eq!(at(b"/app/\xff\xfe name").content, [7; 4097]);
    let target = b"../app".to_vec();
    assert_eq!(*at(b"/etc/link").entry.kind(), Kind::Symlink { target });
    assert_eq!(
        at(b"/etc/tty").entry.kind().file_type(),
        FileType::CharDevice
    );
    assert_eq!(at(b"/").entry.nlink(), 6);
    assert_eq!(at(b"/etc").entry.nlink(), 2);
}

#[test]
fn hard_links_are_one_file() {
    let seen = small().read_all().unwrap();
    let (first, second) = (&seen[&b"/app/secret"[..]], &seen[&b"/app/again"[..]]);
    assert_eq!(first.entry.ino(), second.entry.ino());
    assert_eq!((first.entry.nlink(), second.entry.nlink()), (2, 2));
    assert_eq!(second.entry.stored_path(), b"/app/secret");
    assert_eq!(second.content, b"the recipe");
}

#[test]
fn encrypted_files_are_stored_as_ciphertext_of_exact_size() {
    let sample = small();
    assert_eq!(
        sample.stored[&b"/etc/passwd"[..]],
        b"root:x:0:0::/:/bin/sh\n"
    );
    let secret = &sample.stored[&b"/app/secret"[..]];
    assert_eq!(secret.len(), 10 + 16);
    assert!(
        !secret
            .windows(6)
            .any(|part| b"the recipe".windows(6).any(|it| it == part))
    );
    assert_eq!(
        sample.stored[&b"/app/\xff\xfe name"[..]].len(),
        4097 + 2 * 16
    );
    assert!(!sample.fspf.windows(6).any(|part| part == b"passwd"));
}

#[test]
fn the_digest_is_that_of_the_plaintext_in_both_classes() {
    let mut fspf_sealer = sealer();
    fspf_sealer
        .add_dir(b"/app", Meta::with_mode(0o755))
        .unwrap();
    let content = vec![9; 10_000];
    let clear = fspf_sealer.add_file(b"/a", meta(), &content, &mut Vec::new());
    let sealed = fspf_sealer.add_file(b"/app/a", meta(), &content, &mut Vec::new());
    let (clear, sealed) = (clear.unwrap(), sealed.unwrap());
    let mut digester = FileDigester::new(CHUNK).unwrap();
    digester.update(&content).unwrap();
    assert_eq!(clear.plaintext, digester.finish());
    assert_eq!(clear.plaintext, sealed.plaintext);
    assert_eq!(
        (clear.storage, clear.stored_size),
        (Storage::Authenticated, 10_000)
    );
    assert_eq!(
        (sealed.storage, sealed.stored_size),
        (Storage::Encrypted, 10_048)
    );
}

#[test]
fn absent_paths_do_not_exist() {
    let sample = small();
    let mut fspf = sample.open().unwrap();
    for path in [&b"/etc/passwe"[..], b"/a", b"/zzz", b"/etc/passwd/x"] {
        assert_eq!(fspf.lookup(path), Ok(None));
    }
    let error = fspf.lookup(b"/app/").unwrap_err();
    assert_eq!(error.to_string(), "/app/ is not normalised");
}

#[test]
fn a_listing_continues_at_any_cursor() {
    let sample = small();
    let mut fspf = sample.open().unwrap();
    let mut whole = Vec::new();
    let end = fspf
        .read_dir(b"/etc", 0, |entry| {
            whole.push((entry.name.to_vec(), entry.ino, entry.next));
            true
        })
        .unwrap();
    let names: Vec<_> = whole.iter().map(|(name, ..)| name.as_slice()).collect();
    let expected = [
        &b"disk"[..],
        b"empty",
        b"fifo",
        b"link",
        b"passwd",
        b"socket",
        b"tty",
    ];
    assert_eq!(names, expected);
    assert_eq!(fspf.read_dir(b"/etc", end, |_| true).unwrap(), end);

    let mut cursor = 0;
    let mut one_by_one = Vec::new();
    loop {
        let mut taken = false;
        let next = fspf
            .read_dir(b"/etc", cursor, |entry| {
                let take = !taken;
                if take {
                    one_by_one.push((entry.name.to_vec(), entry.ino, entry.next));
                }
                taken = true;
                take
            })
            .unwrap();
        if !taken {
            break;
        }
        cursor = next;
    }
    assert_eq!(one_by_one, whole);
    assert!(fspf.read_dir(b"/etc/passwd", 0, |_| true).is_err());
    assert!(fspf.read_dir(b"/nowhere", 0, |_| true).is_err());
}

#[test]
fn the_order_of_calls_does_not_matter() {
    let build = |names: &[&[u8]]| {
        let mut sealer = sealer();
        for name in names {
            let path = [b"/", *name].concat();
            sealer.add_file(&path, meta(), *name, &mut InPlace).unwrap();
        }
        sealer.finish().unwrap()
    };
    assert_eq!(build(&[b"a", b"b", b"c"]), build(&[b"c", b"a", b"b"]));
}

#[test]
fn long_lists_go_to_pages_of_their_own() {
    let mut sealer = sealer();
    sealer.add_dir(b"/app", Meta::with_mode(0o755)).unwrap();
    // 1100 chunks of 4 KiB: 35 kB of hashes, three pieces.
    let content: Vec<u8> = (0..1100_u32 * CHUNK)
        .map(|at| (at / CHUNK % 251) as u8)
        .collect();
    let mut stored = Stored::new();
    for path in [&b"/app/big"[..], b"/big"] {
        let sink = stored.entry(path.to_vec()).or_default();
        sealer.add_file(path, meta(), &content, sink).unwrap();
    }
    let xattrs: Xattrs = (0..40_u8).map(|n| (vec![n + 1], vec![n; 900])).collect();
    let sites: Vec<u32> = (0..30_000).flat_map(|n| [n * 140, n % 0x1_0000]).collect();
    sealer.set_xattrs(b"/app/big", &xattrs).unwrap();
    sealer.set_sites(b"/app/big", &sites).unwrap();
    let sealed = sealer.finish().unwrap();
    let sample = Sample {
        fspf: sealed.bytes,
        tag: sealed.tag,
        stored,
    };
    let seen = sample.read_all().unwrap();
    let big = &seen[&b"/app/big"[..]];
    assert!(big.content == content && seen[&b"/big"[..]].content == content);
    assert_eq!(big.xattrs, xattrs);
    assert_eq!(big.sites, sites);

    // One chunk needs one path through the list: root, leaf, one reference page, one piece.
    let mut fspf = sample.open().unwrap();
    let entry = fspf.lookup(b"/app/big").unwrap().unwrap();
    let reader = fspf.open_file(&entry).unwrap();
    let before = fspf.pages_read();
    let mut buffer = vec![0; reader.buffer_len()];
    let length = reader
        .read_chunk(
            &mut fspf,
            1099,
            &sample.stored[&b"/app/big"[..]],
            &mut buffer,
        )
        .unwrap();
    assert_eq!(buffer[..length], content[1099 * 4096..]);
    assert_eq!(fspf.pages_read() - before, 2);
}

#[test]
fn refuses_what_it_cannot_keep() {
    let mut sealer = sealer();
    sealer
        .add_file(b"/a", meta(), &b"x"[..], &mut InPlace)
        .unwrap();
    let duplicate = sealer.add_file(b"/a", meta(), &b"y"[..], &mut InPlace);
    assert!(matches!(
        duplicate,
        Err(AddFileError::Entry(SealError::Duplicate { .. }))
    ));
    let hosts = sealer
        .add_file(b"/etc/hosts", meta(), &b""[..], &mut InPlace)
        .unwrap_err();
    assert_eq!(
        hosts.to_string(),
        "/etc/hosts lies in a region of class host-path, whose content the tree does not list"
    );
    let deep = sealer.add_dir(b"/proc/1", meta());
    assert!(matches!(
        deep,
        Err(SealError::NotProtected {
            class: Class::Synthetic,
            ..
        })
    ));
    let mode = sealer.add_dir(b"/b", Meta::with_mode(0o10_000));
    assert!(matches!(mode, Err(SealError::Meta { .. })));
    assert!(matches!(
        sealer.add_symlink(b"/s", meta(), b""),
        Err(SealError::Target { .. })
    ));
    let link = sealer.set_sites(b"/nowhere", &[]);
    assert!(matches!(link, Err(SealError::NoSuchEntry { .. })));
}

#[test]
fn refuses_orphans_and_links_that_change_protection() {
    let mut orphan = sealer();
    orphan
        .add_file(b"/no/dir", meta(), &b"x"[..], &mut InPlace)
        .unwrap();
    assert!(matches!(orphan.finish(), Err(SealError::NoParent { .. })));

    let mut dangling = sealer();
    dangling.add_hard_link(b"/l", b"/nothing").unwrap();
    assert!(matches!(
        dangling.finish(),
        Err(SealError::NoSuchEntry { .. })
    ));

    let mut across = sealer();
    across.add_dir(b"/app", meta()).unwrap();
    across
        .add_file(b"/clear", meta(), &b"x"[..], &mut InPlace)
        .unwrap();
    across.add_hard_link(b"/app/l", b"/clear").unwrap();
    assert!(matches!(
        across.finish(),
        Err(SealError::LinkAcrossRegions { .. })
    ));
}

/// Gives other bytes each time the first chunk is read.
struct Restless(std::cell::Cell<u8>);

impl Backing for Restless {
    type Error = Infallible;

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Infallible> {
        if offset == 0 {
            self.0.set(self.0.get() + 1);
        }
        buf.fill(self.0.get());
        Ok(buf.len())
    }
}

impl Source for Restless {
    fn size(&self) -> u64 {
        100
    }
}

#[test]
fn a_source_that_changes_is_not_encrypted() {
    let mut sealer = sealer();
    let mut sink = Vec::new();
    let refused = sealer.add_file(b"/app", meta(), &Restless(0.into()), &mut sink);
    assert!(matches!(
        refused,
        Err(AddFileError::Changed { chunk: 0, .. })
    ));
    assert!(sink.is_empty());
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..12).prop_filter("not a name", |name| {
        !name.contains(&0) && !name.contains(&b'/') && name != b"." && name != b".."
    })
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let border = prop::sample::select(vec![0_usize, 1, 4095, 4096, 4097, 8191, 8192, 8193]);
    prop_oneof![
        (border, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
        prop::collection::vec(any::<u8>(), 0..300),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tree_round_trips(
        encrypted in prop::collection::btree_map(name(), content(), 0..30),
        clear in prop::collection::btree_map(name(), content(), 0..30),
    ) {
        let regions = Regions::uniform(Class::Authenticated).dir_encrypted(b"/e").unwrap();
        let mut sealer = Sealer::with_chunk_size(key(), regions, CHUNK).unwrap();
        let mut wanted = BTreeMap::new();
        let mut stored = Stored::new();
        for (dir, files) in [(&b"/e"[..], encrypted), (b"/p", clear)] {
            sealer.add_dir(dir, Meta::with_mode(0o755)).unwrap();
            for (name, content) in files {
                let path = [dir, b"/", &name].concat();
                let sink = stored.entry(path.clone()).or_default();
                sealer.add_file(&path, meta(), &content, sink).unwrap();
                wanted.insert(path, content);
            }
        }
        let sealed = sealer.finish().unwrap();
        let sample = Sample { fspf: sealed.bytes, tag: sealed.tag, stored };
        let seen: BTreeMap<_, _> = sample
            .read_all()
            .unwrap()
            .into_iter()
            .filter(|(_, seen)| seen.entry.file().is_some())
            .map(|(path, seen)| (path, seen.content))
            .collect();
        prop_assert_eq!(seen, wanted);
    }
}

#[test]
fn hashes_known_from_elsewhere_make_the_same_tree() {
    let content = vec![7_u8; 200_000];
    let make = |is_known: bool| {
        let mut sealer = Sealer::new(key(), Regions::defaults().dir_encrypted(b"/app").unwrap());
        sealer.add_dir(b"/app", meta()).unwrap();
        if is_known {
            let mut digester = FileDigester::new(shieldfs::digest::CHUNK).unwrap();
            digester.update(&content).unwrap();
            let list = digester.finish();
            sealer
                .add_known_file(b"/known", meta(), list.clone())
                .unwrap();
            // Ciphertext cannot come from hashes.
            let refused = sealer.add_known_file(b"/app/known", meta(), list);
            assert!(matches!(refused, Err(SealError::NeedsContent { .. })));
            let other = FileDigester::new(4096).unwrap().finish();
            let refused = sealer.add_known_file(b"/other", meta(), other);
            assert!(matches!(refused, Err(SealError::Size(_))));
        } else {
            sealer
                .add_file(b"/known", meta(), &content, &mut InPlace)
                .unwrap();
        }
        sealer.finish().unwrap()
    };
    assert_eq!(make(true), make(false));
}
