// SPDX-License-Identifier: Apache-2.0
//! What is protected, how, and that the kernel's reader agrees.

use std::fs;

use oci::path::RootPath;
use oci::root::{NodeKind, RootView};
use policy::model::FspfKey as SessionKey;
use shieldfs::entry::Kind;
use shieldfs::key::{FspfKey, FspfTag};
use shieldfs::read::Fspf;
use shieldfs::region::{Class, Storage};

use crate::convert::{session, view};
use crate::native::{self, Layer, MARKER};
use crate::tool::Desk;

fn stored(view: &RootView, path: &[u8]) -> Vec<u8> {
    let path = RootPath::parse(path).expect("path");
    let node = view
        .node(&path)
        .unwrap_or_else(|| panic!("{path} is not in the result"));
    let NodeKind::File(data) = node.kind else {
        panic!("{path} is no file");
    };
    view.content(&data)
        .expect("content")
        .read_all(1 << 30)
        .expect("read")
}

/// The result's FSPF, opened with what the session holds.
fn open(desk: &Desk, view: &RootView) -> Fspf<Vec<u8>> {
    let session = session(desk);
    let service = session.services.values().next().expect("one service");
    let fspf = service.fspf.as_ref().expect("an FSPF");
    assert_eq!(fspf.path, "/fspf/fs.fspf");
    let SessionKey::Literal(key) = &fspf.key else {
        panic!("the key is a secret's name");
    };
    let key = FspfKey::from_bytes(key[..].try_into().expect("32 bytes"));
    let tag = FspfTag(fspf.tag.expect("a tag"));
    let bytes = stored(view, b"/fspf/fs.fspf");
    Fspf::open(bytes, &key, tag).expect("key and tag open the FSPF")
}

/// A file's plaintext as the kernel would read it.
fn read(fspf: &mut Fspf<Vec<u8>>, view: &RootView, path: &str) -> Vec<u8> {
    let entry = fspf
        .lookup(path.as_bytes())
        .expect("verified")
        .expect("listed");
    let file = fspf.open_file(&entry).expect("a file");
    let stored = stored(view, entry.stored_path());
    let chunks = entry.file().expect("a file").geometry().chunk_count();
    let mut buffer = vec![0; file.buffer_len()];
    let mut plain = Vec::new();
    for index in 0..chunks {
        let length = file
            .read_chunk(fspf, index, &stored, &mut buffer)
            .expect("chunk");
        plain.extend_from_slice(&buffer[..length]);
    }
    plain
}

fn storage(fspf: &mut Fspf<Vec<u8>>, path: &str) -> Storage {
    let entry = fspf
        .lookup(path.as_bytes())
        .expect("verified")
        .expect("listed");
    entry.file().expect("a file").storage()
}

/// Every byte of the result: blobs, and layers decompressed.
fn all_bytes(desk: &Desk, view: &RootView) -> Vec<Vec<u8>> {
    let blobs = fs::read_dir(desk.path("result/blobs/sha256")).expect("blobs");
    let blobs = blobs.map(|entry| fs::read(entry.expect("entry").path()).expect("blob"));
    let layers = view.layers().iter();
    let layers = layers.map(|layer| {
        layer
            .content()
            .expect("opened")
            .read_all(1 << 30)
            .expect("layer")
    });
    blobs.chain(layers).collect()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn secrets_are_nowhere_in_the_result_and_readable_with_the_session() {
    let desk = native::desk();
    desk.convert_hello(&["--dir=/app"]).success();
    let view = view(&desk);
    for bytes in all_bytes(&desk, &view) {
        assert!(!holds(&bytes, MARKER.as_bytes()));
    }
    let mut fspf = open(&desk, &view);
    assert_eq!(read(&mut fspf, &view, "/app/secret"), MARKER.as_bytes());
    assert_eq!(read(&mut fspf, &view, "/app/again"), MARKER.as_bytes());
    assert_eq!(
        read(&mut fspf, &view, "/app/large").len(),
        (MARKER.len() + 1) * 10_000
    );
    assert_eq!(read(&mut fspf, &view, "/app/empty"), b"");
    assert_eq!(
        read(&mut fspf, &view, "/app/deep/er/file"),
        format!("deep {MARKER}").as_bytes()
    );
    assert_eq!(storage(&mut fspf, "/app/secret"), Storage::Encrypted);
    assert_eq!(storage(&mut fspf, "/etc/passwd"), Storage::Authenticated);
    let soft = fspf
        .lookup(b"/app/soft")
        .expect("verified")
        .expect("listed");
    assert_eq!(
        soft.kind(),
        &Kind::Symlink {
            target: b"/etc/passwd".to_vec()
        }
    );
    assert!(fspf.lookup(b"/app/absent").expect("verified").is_none());
}

#[test]
fn code_outside_the_startup_list_has_its_syscall_sites_in_the_tree() {
    let desk = Desk::new();
    let libc = fs::read("/lib/x86_64-linux-gnu/libc.so.6").expect("library");
    let plugins = Layer::new()
        .file("srv/plugin.so", 0o644, &libc)
        .file("app/plugin.so", 0o644, &libc)
        .file("srv/cut.so", 0o644, &libc[..4000]);
    let layers = vec![native::base(&desk), native::app(), plugins];
    native::write(&desk, "amd64", &native::config(), layers);
    desk.convert_hello(&["--dir=/app"]).success();
    let view = view(&desk);
    let mut fspf = open(&desk, &view);
    let mut sites = |path: &str| {
        let entry = fspf
            .lookup(path.as_bytes())
            .expect("verified")
            .expect("listed");
        fspf.sites(&entry).expect("well-formed")
    };
    let expected: Vec<u32> = enclave_image::sites::find(&libc)
        .expect("ELF")
        .sites
        .into_iter()
        .flat_map(enclave_abi::startup::Site::to_words)
        .collect();
    assert!(expected.len() > 100, "libc calls the system");
    for path in [
        "/srv/plugin.so",
        "/app/plugin.so",
        "/lib/x86_64-linux-gnu/libc.so.6",
    ] {
        assert_eq!(sites(path), expected, "{path}");
    }
    assert!(!sites("/ensconce/agent").is_empty());
    for path in ["/srv/cut.so", "/etc/passwd", "/app/secret"] {
        assert!(sites(path).is_empty(), "{path}");
    }
}

#[test]
fn native_layers_are_used_again_unless_they_hold_secrets() {
    let desk = native::desk();
    desk.convert_hello(&["--dir=/app", "--report=report.json"])
        .success();
    let report: serde_json::Value = serde_json::from_str(&desk.text("report.json")).expect("JSON");
    assert_eq!(
        report["layers"],
        serde_json::json!({"reused": 1, "rewritten": 1})
    );
    let digests = |dir: &str| {
        let blobs = fs::read_dir(desk.path(dir).join("blobs/sha256")).expect("blobs");
        blobs
            .map(|entry| entry.expect("entry").file_name())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let common = digests("native").intersection(&digests("result")).count();
    assert_eq!(common, 1, "the base layer, bit for bit");
}

#[test]
fn deleted_and_replaced_secrets_do_not_survive_in_lower_layers() {
    let desk = Desk::new();
    let layers = vec![
        native::base(&desk).file("app/old", 0o600, MARKER),
        Layer::new()
            .file("app/.wh.old", 0o600, "")
            .file("app/key", 0o600, MARKER),
        Layer::new().file("app/key", 0o600, "harmless"),
    ];
    let mut config = native::config();
    config["Env"] = serde_json::json!([]);
    native::write(&desk, "amd64", &config, layers);
    desk.convert_hello(&["--dir=/app"]).success();
    let view = view(&desk);
    for bytes in all_bytes(&desk, &view) {
        assert!(!holds(&bytes, MARKER.as_bytes()));
    }
    let mut fspf = open(&desk, &view);
    assert_eq!(read(&mut fspf, &view, "/app/key"), b"harmless");
    assert!(fspf.lookup(b"/app/old").expect("verified").is_none());
}

#[test]
fn the_launcher_stands_in_for_the_program() {
    let desk = native::desk();
    desk.convert_hello(&[]).success();
    let view = view(&desk);
    let launcher = fs::read(desk.path("libexec/launch")).expect("launcher");
    assert_eq!(stored(&view, b"/ensconce/launch"), launcher);
    assert_eq!(stored(&view, b"/usr/bin/hello"), launcher);
    let program = fs::read(desk.path("hello")).expect("program");
    assert_eq!(stored(&view, b"/ensconce/program/usr/bin/hello"), program);
    // Inside, the program is at its own path.
    let mut fspf = open(&desk, &view);
    assert_eq!(read(&mut fspf, &view, "/usr/bin/hello"), program);
    assert_eq!(
        read(&mut fspf, &view, "/ensconce/agent"),
        fs::read(desk.path("libexec/agent")).expect("agent")
    );
}

#[test]
fn startup_list_and_fspf_hold_the_same_digests() {
    let desk = native::desk();
    desk.convert_hello(&["--dir=/"]).success();
    let view = view(&desk);
    let mut fspf = open(&desk, &view);
    let file = stored(&view, b"/ensconce/enclave.img");
    let list = startup_list(&file);
    assert!(list.files.len() >= 4, "program, loader, libc, agent");
    for startup in &list.files {
        let entry = fspf
            .lookup(&startup.path)
            .expect("verified")
            .expect("listed");
        let content = entry.file().expect("a file");
        assert_eq!(
            content.storage(),
            Storage::Authenticated,
            "needed before any key"
        );
        let hashes = startup.chunks.clone();
        let chunks = shieldfs::digest::ChunkList::new(startup.size, startup.chunk_size, hashes)
            .expect("list");
        assert_eq!(content.digest(), &chunks.digest());
    }
}

fn startup_list(file: &[u8]) -> enclave_abi::startup::StartupList {
    // The list's bytes start with its version and a program entry; the kernel
    // finds them by the boot page.
    let header = enclave_abi::image::Header::decode(file, file.len() as u64).expect("header");
    let boot = header
        .runs
        .first()
        .and_then(|run| run.source)
        .expect("boot page");
    let boot = usize::try_from(boot).expect("small");
    let page: &[u8; 4096] = file[boot..].first_chunk().expect("page");
    let boot = enclave_abi::boot::BootPage::decode(page).expect("boot page");
    let run = header
        .runs
        .iter()
        .find(|run| {
            let end = run.offset + u64::from(run.pages) * 4096;
            (run.offset..end).contains(&boot.startup.offset)
        })
        .expect("the run with the list");
    let start = run.source.expect("bytes") + boot.startup.offset - run.offset;
    let start = usize::try_from(start).expect("small");
    let end = start + usize::try_from(boot.startup.len).expect("small");
    enclave_abi::startup::StartupList::decode(&file[start..end]).expect("startup list")
}

#[test]
fn the_whole_image_can_be_encrypted() {
    let desk = native::desk();
    desk.convert_hello(&["--dir=/", "--plain-file=/srv/public"])
        .success();
    let view = view(&desk);
    let all = all_bytes(&desk, &view);
    for bytes in &all {
        assert!(!holds(bytes, MARKER.as_bytes()));
        assert!(!holds(bytes, b"root:x:0:0"));
    }
    assert!(
        all.iter()
            .any(|bytes| holds(bytes, b"everybody may read this"))
    );
    let mut fspf = open(&desk, &view);
    assert_eq!(read(&mut fspf, &view, "/app/secret"), MARKER.as_bytes());
    assert!(read(&mut fspf, &view, "/etc/passwd").starts_with(b"root:x:0:0"));
    assert_eq!(fspf.regions().class_of(b"/srv/public"), Class::Plain);
    assert_eq!(stored(&view, b"/srv/public"), b"everybody may read this");
}

#[test]
fn one_changed_byte_is_refused_by_the_reader() {
    let desk = native::desk();
    desk.convert_hello(&["--dir=/app"]).success();
    let view = view(&desk);
    let mut fspf = open(&desk, &view);
    for path in ["/app/secret", "/etc/passwd"] {
        let entry = fspf
            .lookup(path.as_bytes())
            .expect("verified")
            .expect("listed");
        let file = fspf.open_file(&entry).expect("a file");
        let mut bytes = stored(&view, entry.stored_path());
        bytes[5] ^= 1;
        let mut buffer = vec![0; file.buffer_len()];
        assert!(
            file.read_chunk(&mut fspf, 0, &bytes, &mut buffer).is_err(),
            "{path}"
        );
    }
}
