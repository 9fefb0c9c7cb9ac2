// SPDX-License-Identifier: Apache-2.0

use alloc::vec;

use shieldfs::entry::Meta;
use shieldfs::region::Regions;
use shieldfs::seal::Sealer;

use super::*;
use crate::vfs::testing::Bench;
use shieldfs::region::Class;

const LONG: usize = 200_000;

fn long() -> Vec<u8> {
    (0..LONG).map(|at| (at * 7 % 251) as u8).collect()
}

/// A container with one authenticated and one encrypted file, and its tree.
struct Sealed {
    bench: Bench,
    key: FspfKey,
    tag: FspfTag,
}

impl Sealed {
    fn new() -> Self {
        let bench = Bench::new();
        let root = bench.machine.root.path().to_path_buf();
        std::fs::create_dir_all(root.join("app")).unwrap();
        std::fs::create_dir_all(root.join("lib")).unwrap();
        let key = FspfKey::from_bytes([3; 32]);
        let regions = Regions::uniform(Class::Authenticated)
            .dir_encrypted(b"/app")
            .unwrap();
        let mut sealer = Sealer::new(key.clone(), regions);
        for dir in [&b"/"[..], b"/app", b"/lib"] {
            sealer.add_dir(dir, Meta::with_mode(0o755)).unwrap();
        }
        let content = long();
        for path in ["/app/secret", "/lib/code"] {
            let mut stored = Vec::new();
            let meta = Meta::with_mode(0o644);
            sealer
                .add_file(path.as_bytes(), meta, &content.as_slice(), &mut stored)
                .unwrap();
            std::fs::write(root.join(&path[1..]), stored).unwrap();
        }
        sealer
            .add_symlink(b"/lib/link", Meta::with_mode(0o777), b"code")
            .unwrap();
        let sealed = sealer.finish().unwrap();
        std::fs::write(root.join("fs.fspf"), &sealed.bytes).unwrap();
        Self {
            bench,
            key,
            tag: sealed.tag,
        }
    }

    fn tree(&self) -> Result<Arc<Tree>, Errno> {
        let cache = ChunkCache::new(1 << 20);
        Tree::open(
            self.bench.machine,
            b"/fs.fspf",
            &self.key,
            self.tag,
            &cache,
            false,
        )
    }

    fn fs(&self) -> Arc<ProtectedFs> {
        ProtectedFs::new(&self.tree().unwrap())
    }

    fn read(&self, path: &str, at: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let cx = self.bench.cx();
        let opened = self
            .fs()
            .open(&cx, path.as_bytes(), OpenFlags::empty(), 0)?;
        let Opened::File(file) = opened else {
            panic!("{path} is a file");
        };
        let mut bytes = vec![0; len];
        let count = file.read_at(&cx, at, &mut Sink::Kernel(&mut bytes))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn flip(&self, path: &str, at: usize) {
        let path = self.bench.machine.root.path().join(path);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn files_read_as_they_were_sealed() {
    let sealed = Sealed::new();
    let content = long();
    for path in ["/app/secret", "/lib/code"] {
        assert!(
            sealed.read(path, 0, LONG + 10).unwrap() == content,
            "{path}"
        );
        for (at, len) in [
            (0, 1),
            (65_535, 2),
            (65_536, 131_072),
            (LONG - 1, 5),
            (LONG, 1),
        ] {
            let expected = &content[at..(at + len).min(LONG)];
            assert!(
                sealed.read(path, at as u64, len).unwrap() == expected,
                "{path} {at} {len}"
            );
        }
    }
    let stored = std::fs::read(sealed.bench.machine.root.path().join("app/secret")).unwrap();
    assert!(!stored.windows(64).any(|window| window == &content[..64]));
}

#[test]
fn names_and_types_come_from_the_tree() {
    let sealed = Sealed::new();
    let (cx, fs) = (sealed.bench.cx(), sealed.fs());
    let root = sealed.bench.machine.root.path();
    std::fs::write(root.join("lib/planted"), "evil").unwrap();
    assert_eq!(fs.stat(&cx, b"/lib/planted"), Err(Errno::ENOENT));
    std::fs::remove_file(root.join("lib/code")).unwrap();
    assert_eq!(fs.stat(&cx, b"/lib/code").unwrap().size, LONG as u64);
    assert_eq!(fs.readlink(&cx, b"/lib/link").unwrap(), b"code");
    let Opened::Directory(directory) = fs.open(&cx, b"/lib", OpenFlags::DIRECTORY, 0).unwrap()
    else {
        panic!("a directory");
    };
    let names: Vec<_> = directory
        .list(&cx)
        .unwrap()
        .into_iter()
        .map(|r| r.name)
        .collect();
    assert_eq!(names, [b"code".to_vec(), b"link".to_vec()]);
}

#[test]
fn nothing_can_be_changed() {
    let sealed = Sealed::new();
    let (cx, fs) = (sealed.bench.cx(), sealed.fs());
    let open = |path: &[u8], flags| fs.open(&cx, path, flags, 0o644).err();
    assert_eq!(
        open(b"/lib/code", OpenFlags::READ_WRITE),
        Some(Errno::EROFS)
    );
    assert_eq!(
        open(b"/lib/new", OpenFlags::CREATE | OpenFlags::READ_WRITE),
        Some(Errno::EROFS)
    );
    assert_eq!(fs.unlink(&cx, b"/lib/code", false), Err(Errno::EROFS));
    assert_eq!(fs.mkdir(&cx, b"/lib/new", 0o755), Err(Errno::EROFS));
    assert_eq!(fs.mkdir(&cx, b"/lib", 0o755), Err(Errno::EEXIST));
}

#[test]
fn one_flipped_bit_is_refused_where_it_lies_and_nowhere_else() {
    for path in ["app/secret", "lib/code"] {
        let sealed = Sealed::new();
        sealed.flip(path, 70_000);
        let path = alloc::format!("/{path}");
        assert_eq!(sealed.read(&path, 0, LONG), Err(Errno::EIO), "{path}");
        assert_eq!(sealed.read(&path, 66_000, 1), Err(Errno::EIO), "{path}");
        assert!(sealed.read(&path, 0, 65_536).is_ok(), "{path}");
        assert!(sealed.read(&path, 150_000, 10).is_ok(), "{path}");
    }
}

#[test]
fn truncated_files_are_refused() {
    let sealed = Sealed::new();
    let path = sealed.bench.machine.root.path().join("lib/code");
    std::fs::write(&path, &long()[..100_000]).unwrap();
    assert_eq!(sealed.read("/lib/code", 0, LONG), Err(Errno::EIO));
    std::fs::write(&path, "").unwrap();
    assert_eq!(sealed.read("/lib/code", 0, 1), Err(Errno::EIO));
}

#[test]
fn another_tree_key_or_tag_is_refused() {
    let mut sealed = Sealed::new();
    sealed.tag.0[0] ^= 1;
    assert_eq!(sealed.tree().err(), Some(Errno::EIO));
    sealed.tag.0[0] ^= 1;
    sealed.key = FspfKey::from_bytes([4; 32]);
    assert_eq!(sealed.tree().err(), Some(Errno::EIO));
    sealed.key = FspfKey::from_bytes([3; 32]);
    assert!(sealed.tree().is_ok());
    sealed.flip("fs.fspf", 40);
    assert_eq!(sealed.tree().err(), Some(Errno::EIO));
}

#[test]
fn regions_become_file_systems() {
    use crate::vfs::memfs::Quota;
    use crate::vfs::startup::StartupFiles;
    use enclave_abi::start::Inject;
    use enclave_abi::startup::StartupList;

    let bench = Bench::new();
    let root = bench.machine.root.path().to_path_buf();
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/hosts"), "host").unwrap();
    let key = FspfKey::from_bytes([3; 32]);
    let mut sealer = Sealer::new(key.clone(), Regions::defaults());
    for dir in ["/", "/etc", "/tmp"] {
        sealer
            .add_dir(dir.as_bytes(), Meta::with_mode(0o755))
            .unwrap();
    }
    let sealed = sealer.finish().unwrap();
    std::fs::write(root.join("fs.fspf"), &sealed.bytes).unwrap();
    let cache = ChunkCache::new(1 << 20);
    let tree = Tree::open(bench.machine, b"/fs.fspf", &key, sealed.tag, &cache, false).unwrap();
    let startup = StartupFiles::new(StartupList::default(), &cache, |_, _| true).unwrap();
    let injected = [Inject {
        path: b"/etc/app.conf".to_vec(),
        mode: 0o400,
        content: b"x=1".to_vec(),
    }];
    let quota = Quota::new(1 << 20);
    let cx = bench.cx();
    let namespace = namespace(&cx, &tree, startup, &injected, &quota, &|_| None).unwrap();

    let new = OpenFlags::CREATE | OpenFlags::READ_WRITE;
    assert!(namespace.open(&cx, b"/", b"/tmp/x", new, 0o600).is_ok());
    assert!(!root.join("tmp").exists(), "ephemeral files stay inside");
    assert_eq!(
        namespace.stat(&cx, b"/", b"/etc/hosts", true).unwrap().size,
        4
    );
    let conf = namespace.stat(&cx, b"/", b"/etc/app.conf", true).unwrap();
    assert_eq!((conf.mode & 0o777, conf.size), (0o400, 3));
    assert!(
        !root.join("etc/app.conf").exists(),
        "injected files stay inside"
    );
    std::fs::create_dir_all(root.join("proc")).unwrap();
    std::fs::write(root.join("proc/version"), "host").unwrap();
    assert_eq!(
        namespace.stat(&cx, b"/", b"/proc/version", true),
        Err(Errno::ENOENT)
    );
}

#[test]
fn startup_files_must_be_the_trees() {
    use crate::vfs::startup::StartupFiles;
    use enclave_abi::startup::{Role, StartupFile, StartupList};
    use shieldfs::digest::{CHUNK, chunk_hash};

    let sealed = Sealed::new();
    let cache = ChunkCache::new(1 << 20);
    let cx = sealed.bench.cx();
    let list = |path: &[u8], content: &[u8]| StartupList {
        files: vec![StartupFile {
            role: Role::Library,
            path: path.to_vec(),
            size: content.len() as u64,
            chunk_size: CHUNK,
            chunks: content.chunks(CHUNK as usize).map(chunk_hash).collect(),
            sites: vec![],
        }],
    };
    let mounted = |list: StartupList| {
        let startup = StartupFiles::new(list, &cache, |_, _| true).unwrap();
        mount(
            &cx,
            b"/fs.fspf",
            &sealed.key,
            sealed.tag,
            &startup,
            &cache,
            false,
        )
        .map(|_| ())
    };
    assert_eq!(mounted(list(b"/lib/code", &long())), Ok(()));
    let mut other = long();
    other[5] ^= 1;
    for bad in [list(b"/lib/code", &other), list(b"/lib/missing", &long())] {
        assert!(matches!(mounted(bad), Err(MountError::Disagreement { .. })));
    }
}
