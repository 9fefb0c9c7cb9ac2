// SPDX-License-Identifier: Apache-2.0
//! Archives that were made to do harm.

use std::fs;
use std::io::Write;
use std::path::Path;

use oci::image::Image;
use oci::layer::LayerError;
use oci::layer::walk::WalkError;
use oci::limits::Limits;
use oci::path::PathError;
use oci::root::{ResolveError, RootError};
use oci::slice::FileSlice;
use proptest::prelude::*;

use crate::fixture::*;

fn refusal(archive: Vec<u8>) -> WalkError {
    refusal_within(archive, &Limits::default())
}

fn refusal_within(archive: Vec<u8>, limits: &Limits) -> WalkError {
    match try_view(&[archive], limits) {
        Err(RootError::Walk { layer: 0, source }) => source,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn names_that_climb_are_refused() {
    for name in ["../x", "a/../../x", "/../x", "a/.."] {
        let error = refusal(Tar::new().file(name, "").end());
        assert!(
            matches!(
                error,
                WalkError::Path {
                    source: PathError::Parent,
                    ..
                }
            ),
            "{name}: {error}"
        );
    }
    let error = refusal(Tar::new().hard_link("a", "../../etc/passwd").end());
    assert!(matches!(error, WalkError::Path { .. }), "{error}");
    let error = refusal(
        Tar::new()
            .pax(&record("path", "../../x"))
            .file("fine", "")
            .end(),
    );
    assert!(matches!(error, WalkError::Path { .. }), "{error}");
}

#[test]
fn absolute_names_stay_inside_the_root() {
    let view = view(&[Tar::new()
        .file("/etc/passwd", "x")
        .file("//a//./b", "y")
        .end()]);
    assert_eq!(paths(&view), ["/", "/a", "/a/b", "/etc", "/etc/passwd"]);
}

#[test]
fn damaged_and_cut_archives_are_refused() {
    let good = Tar::new().file("a", &"x".repeat(1500)).end();
    let mut damaged = good.clone();
    damaged[10] ^= 1;
    assert!(matches!(
        refusal(damaged),
        WalkError::Checksum { offset: 0 }
    ));
    for length in [100, 600, 1024, 2000] {
        let cut = good[..length].to_vec();
        assert!(
            matches!(refusal(cut), WalkError::Truncated { .. }),
            "{length}"
        );
    }
    // The end marker itself may be missing.
    assert_eq!(paths(&view(&[good[..2048].to_vec()])), ["/", "/a"]);
}

#[test]
fn bytes_behind_the_end_marker_are_refused() {
    let mut archive = Tar::new().file("a", "x").end();
    archive.extend_from_slice(&[0; 8192]);
    view(&[archive.clone()]);
    archive.extend_from_slice(b"hidden");
    assert!(matches!(refusal(archive), WalkError::Trailing { .. }));
    let mut second = Tar::new().file("a", "x").0;
    second.extend_from_slice(&[0; 512]);
    second.extend(Tar::new().file("b", "y").end());
    assert!(matches!(refusal(second), WalkError::Trailing { .. }));
}

#[test]
fn entries_that_readers_understand_differently_are_refused() {
    for kind in [b'1', b'2', b'3', b'5', b'6'] {
        let archive = Tar::new().entry("a", kind, b"content", |header| {
            header.as_old_mut().linkname[0] = b'b';
            header.set_device_major(1).expect("ustar");
            header.set_device_minor(1).expect("ustar");
        });
        let error = refusal(archive.end());
        assert!(
            matches!(error, WalkError::Content { size: 7, .. }),
            "{error}"
        );
    }
    for kind in [b'S', b'M', b'V', b'D', b'Z', 0xff] {
        let error = refusal(Tar::new().entry("a", kind, b"", |_| {}).end());
        assert!(
            matches!(error, WalkError::UnsupportedType { type_flag, .. } if type_flag == kind),
            "{error}"
        );
    }
    let sparse = Tar::new()
        .pax(&record("GNU.sparse.major", "1"))
        .file("a", "");
    assert!(matches!(refusal(sparse.end()), WalkError::Pax { .. }));
}

#[test]
fn numbers_that_are_left_out_are_zero() {
    let blank = |blank: u8| {
        let archive = Tar::new().entry("d", b'3', b"", move |header| {
            let ustar = header.as_ustar_mut().expect("ustar");
            ustar.dev_major = [blank; 8];
            ustar.dev_minor = [blank; 8];
        });
        let archive = archive.entry("f", b'0', b"", move |header| {
            let old = header.as_old_mut();
            (old.uid, old.gid, old.mode) = ([blank; 8], [blank; 8], [blank; 8]);
            (old.mtime, old.size) = ([blank; 12], [blank; 12]);
        });
        view(&[archive.end()])
    };
    for byte in [0, b' '] {
        let view = blank(byte);
        let file = view.node(&at("/f")).expect("there");
        assert_eq!(file.metadata, oci::layer::entry::Metadata::of_root(0));
        let device = view.node(&at("/d")).expect("there");
        let (major, minor) = (0, 0);
        assert_eq!(
            device.kind,
            oci::root::NodeKind::CharDevice { major, minor }
        );
    }
    let letters = Tar::new().entry("f", b'0', b"", |header| {
        header.as_old_mut().uid = *b"none\0\0\0\0";
    });
    let error = refusal(letters.end());
    assert!(
        matches!(error, WalkError::Field { field: "owner", .. }),
        "{error}"
    );
}

#[test]
fn stated_sizes_are_not_believed() {
    let huge = |size: [u8; 12]| {
        Tar::new()
            .entry("a", b'0', b"", |header| header.as_old_mut().size = size)
            .end()
    };
    // Base-256 numbers: the largest, and 2^63.
    let mut base256 = [0xff; 12];
    assert!(matches!(
        refusal(huge(base256)),
        WalkError::Truncated { .. } | WalkError::Field { .. }
    ));
    base256 = [0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    assert!(matches!(
        refusal(huge(base256)),
        WalkError::Truncated { .. } | WalkError::Field { .. }
    ));
    assert!(matches!(
        refusal(huge(*b"zzzzzzzzzzz\0")),
        WalkError::Field { .. }
    ));
    let pax = Tar::new()
        .pax(&record("size", "18446744073709551615"))
        .file("a", "");
    assert!(matches!(refusal(pax.end()), WalkError::Truncated { .. }));
}

#[test]
fn extension_records_are_bounded() {
    let limits = Limits::default();
    let big = "x".repeat(usize::try_from(limits.extension).expect("small") + 1);
    for kind in [b'x', b'g', b'L', b'K'] {
        let archive = Tar::new()
            .entry("e", kind, big.as_bytes(), |_| {})
            .file("a", "");
        let error = refusal(archive.end());
        assert!(matches!(error, WalkError::Extension { .. }), "{error}");
    }
    let mut many = Tar::new();
    for _ in 0..100 {
        many = many.pax(b"9 path=a\n");
    }
    assert!(matches!(refusal(many.end()), WalkError::Extension { .. }));
    let alone = Tar::new().pax(b"9 path=a\n").end();
    assert!(matches!(refusal(alone), WalkError::Truncated { .. }));
}

#[test]
fn long_names_of_gnu_and_pax_are_read() {
    let name = "d/".repeat(100) + "file";
    let gnu = Tar::new()
        .entry("@", b'L', format!("{name}\0").as_bytes(), |_| {})
        .file("short", "1")
        .end();
    assert_eq!(content(&view(&[gnu]), &name), "1");
    let pax = Tar::new()
        .pax(&record("path", &name))
        .file("short", "2")
        .end();
    assert_eq!(content(&view(&[pax]), &name), "2");
}

#[test]
fn too_long_paths_are_refused() {
    let gnu = |name: &str| {
        let name = format!("{name}\0");
        Tar::new()
            .entry("@", b'L', name.as_bytes(), |_| {})
            .file("short", "")
    };
    let component = refusal(gnu(&"x".repeat(256)).end());
    assert!(matches!(component, WalkError::Path { .. }), "{component}");
    let path = refusal(gnu(&"x/".repeat(3000)).end());
    assert!(matches!(path, WalkError::Path { .. }), "{path}");
}

#[test]
fn the_number_of_entries_is_bounded_over_all_layers() {
    let mut limits = Limits::default();
    limits.entries = 3;
    let layer = Tar::new().file("a", "").file("b", "").end();
    try_view(std::slice::from_ref(&layer), &limits).expect("two of three");
    let error = try_view(&[layer.clone(), layer], &limits).expect_err("four of three");
    assert!(matches!(
        error,
        RootError::Walk {
            layer: 1,
            source: WalkError::TooManyEntries { .. }
        }
    ));
}

#[test]
fn decompression_bombs_stop_at_the_limit() {
    let mut limits = Limits::default();
    limits.content = 1 << 20;
    let bomb = Tar::new().file("a", &"\0".repeat(8 << 20)).end();
    for form in [Form::Gzip, Form::Zstd, Form::Plain] {
        let image = layout_image(&[(form, bomb.clone())]);
        let error = oci::root::RootView::open(&image, &limits, &std::env::temp_dir());
        assert!(matches!(
            error,
            Err(RootError::Layer {
                layer: 0,
                source: LayerError::TooLarge { .. }
            })
        ));
    }
}

#[test]
fn links_that_lead_nowhere_are_refused_when_content_needs_them() {
    for archive in [
        Tar::new().hard_link("a", "missing"),
        Tar::new().dir("d").hard_link("a", "d"),
        Tar::new().hard_link("a", "a"),
    ] {
        let error = try_view(&[archive.end()], &Limits::default());
        assert!(matches!(error, Err(RootError::HardLink { .. })));
    }
    let loops = Tar::new().symlink("l", "l").file("l/x", "").end();
    let error = try_view(&[loops], &Limits::default());
    assert!(matches!(
        error,
        Err(RootError::Parent {
            source: ResolveError::Loop { .. },
            ..
        })
    ));
    let through_file = Tar::new().file("f", "").file("f/x", "").end();
    let error = try_view(&[through_file], &Limits::default());
    assert!(matches!(
        error,
        Err(RootError::Parent {
            source: ResolveError::NotADirectory { .. },
            ..
        })
    ));
}

#[test]
fn the_root_stays_a_directory() {
    for archive in [Tar::new().file("./", ""), Tar::new().symlink("/", "/etc")] {
        let error = try_view(&[archive.end()], &Limits::default());
        assert!(
            matches!(error, Err(RootError::Root { layer: 0 })),
            "{error:?}"
        );
    }
}

#[test]
fn malformed_whiteouts_are_refused() {
    for name in ["a/.wh.", "a/.wh..", "a/.wh..."] {
        let error = try_view(&[Tar::new().file(name, "").end()], &Limits::default());
        assert!(matches!(error, Err(RootError::Whiteout { .. })), "{name}");
    }
}

fn flip_first_byte_of_largest_blob(dir: &Path) {
    let largest = fs::read_dir(dir.join("blobs/sha256"))
        .expect("blobs")
        .map(|entry| entry.expect("entry").path())
        .max_by_key(|path| fs::metadata(path).expect("metadata").len())
        .expect("a blob");
    let mut bytes = fs::read(&largest).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).expect("write");
}

#[test]
fn changed_layers_are_refused_by_digest() {
    let dir = temp();
    let layer = Tar::new().file("a", &"content ".repeat(1000)).end();
    write_layout(dir.path(), &[(Form::Plain, layer)]);
    flip_first_byte_of_largest_blob(dir.path());
    let image = open(&format!("oci:{}", dir.path().display()));
    let error = oci::root::RootView::open(&image, &Limits::default(), dir.path());
    assert!(matches!(
        error,
        Err(RootError::Layer {
            source: LayerError::Digest { .. },
            ..
        })
    ));
}

#[test]
fn pipes_and_oversized_documents_in_layouts_are_refused() {
    let dir = temp();
    write_layout(dir.path(), &[(Form::Plain, Tar::new().end())]);
    let target = reference(&format!("oci:{}", dir.path().display()));
    let index = dir.path().join("index.json");
    fs::remove_file(&index).expect("remove");
    rustix::fs::mkfifoat(rustix::fs::CWD, &index, rustix::fs::Mode::RWXU).expect("mkfifo");
    Image::open(&target, &Limits::default(), dir.path()).expect_err("a pipe is no index");
    fs::remove_file(&index).expect("remove");
    let mut file = fs::File::create(&index).expect("create");
    file.write_all(&vec![b' '; 9 << 20]).expect("write");
    Image::open(&target, &Limits::default(), dir.path()).expect_err("9 MiB is no index");
}

fn walk_all(bytes: &[u8]) {
    let slice = FileSlice::spool(&std::env::temp_dir(), bytes).expect("spool");
    let limits = Limits::default();
    for entry in oci::layer::walk::Walker::new(&slice, &limits) {
        let Ok(entry) = entry else { break };
        assert!(entry.record_end <= slice.len());
    }
}

proptest! {
    #[test]
    fn arbitrary_blocks_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        walk_all(&bytes);
    }

    #[test]
    fn changed_headers_never_panic(
        position in 0_usize..512,
        value: u8,
        kind in prop::sample::select(&b"0123456xgLK7"[..]),
    ) {
        // A correct checksum lets the changed field through to its parser.
        let archive = Tar::new().pax(b"9 path=a\n").entry("a/b", kind, b"12 path=a/b\n", |header| {
            header.as_mut_bytes()[position] = value;
        });
        let archive = archive.file("c", "d").end();
        walk_all(&archive);
        let _ = try_view(&[archive], &Limits::default());
    }
}
