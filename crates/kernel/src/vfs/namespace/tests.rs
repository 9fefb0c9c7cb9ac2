// SPDX-License-Identifier: Apache-2.0

use alloc::string::String;
use alloc::vec;
use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::filesystem::FileSystem;
use crate::vfs::hostfs::HostFs;
use crate::vfs::memfs::{MemFs, Quota};
use crate::vfs::testing::Bench;

fn names(bench: &Bench) -> Arc<Namespace> {
    bench.task.process.files.namespace()
}

fn open(bench: &Bench, path: &str, flags: OpenFlags) -> Result<Arc<OpenFile>, Errno> {
    names(bench).open(&bench.cx(), b"/", path.as_bytes(), flags, 0o644)
}

fn read(bench: &Bench, path: &str) -> Result<String, Errno> {
    let file = open(bench, path, OpenFlags::empty())?;
    let mut bytes = vec![0; 1000];
    let count = file.read(&bench.cx(), &mut Sink::Kernel(&mut bytes))?;
    bytes.truncate(count);
    Ok(String::from_utf8(bytes).unwrap())
}

fn write(bench: &Bench, path: &str, text: &str) -> Result<(), Errno> {
    let flags = OpenFlags::CREATE | OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE;
    let file = open(bench, path, flags)?;
    file.write(&bench.cx(), Source::Kernel(text.as_bytes()))?;
    Ok(())
}

fn list(bench: &Bench, path: &str) -> Vec<String> {
    let directory = open(bench, path, OpenFlags::DIRECTORY).unwrap();
    let mut names = Vec::new();
    directory
        .read_directory(&bench.cx(), |record, _| {
            names.push(String::from_utf8(record.name.clone()).unwrap());
            true
        })
        .unwrap();
    assert_eq!(names.drain(..2).collect::<Vec<_>>(), [".", ".."]);
    names.sort();
    names
}

#[test]
fn links_between_regions_end_where_the_regions_say() {
    let bench = Bench::new();
    let root = bench.machine.root.path();
    fs::create_dir(root.join("tmp")).unwrap();
    fs::write(root.join("tmp/a"), "the host's").unwrap();
    symlink("/tmp", root.join("var-tmp")).unwrap();
    symlink("tmp/a", root.join("direct")).unwrap();
    write(&bench, "/tmp/a", "the enclave's").unwrap();
    assert_eq!(read(&bench, "/var-tmp/a").unwrap(), "the enclave's");
    assert_eq!(read(&bench, "/direct").unwrap(), "the enclave's");
    assert_eq!(
        read(&bench, "/var-tmp/../var-tmp/./a").unwrap(),
        "the enclave's"
    );
}

#[test]
fn a_link_in_memory_can_lead_to_the_host() {
    let bench = Bench::new();
    let root = bench.machine.root.path();
    fs::write(root.join("outside"), "plain").unwrap();
    let cx = bench.cx();
    names(&bench)
        .symlink(&cx, b"/outside", b"/", b"/tmp/link")
        .unwrap();
    assert_eq!(read(&bench, "/tmp/link").unwrap(), "plain");
    assert_eq!(
        open(&bench, "/tmp/link", OpenFlags::NO_FOLLOW).unwrap_err(),
        Errno::ELOOP
    );
    assert_eq!(
        names(&bench).readlink(&cx, b"/tmp", b"link").unwrap(),
        b"/outside"
    );
}

#[test]
fn loops_end() {
    let bench = Bench::new();
    let cx = bench.cx();
    let names = names(&bench);
    names.symlink(&cx, b"b", b"/", b"/tmp/a").unwrap();
    names.symlink(&cx, b"a", b"/", b"/tmp/b").unwrap();
    assert_eq!(read(&bench, "/tmp/a"), Err(Errno::ELOOP));
    assert_eq!(read(&bench, "/tmp/a/x"), Err(Errno::ELOOP));
    assert!(names.stat(&cx, b"/", b"/tmp/a", false).is_ok());
}

#[test]
fn creating_through_a_dangling_link_makes_its_target() {
    let bench = Bench::new();
    let cx = bench.cx();
    names(&bench)
        .symlink(&cx, b"real", b"/", b"/tmp/link")
        .unwrap();
    write(&bench, "/tmp/link", "text").unwrap();
    assert_eq!(read(&bench, "/tmp/real").unwrap(), "text");
    let flags = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::WRITE_ONLY;
    assert_eq!(open(&bench, "/tmp/link", flags).unwrap_err(), Errno::EEXIST);
}

#[test]
fn the_same_path_cannot_leave_the_root() {
    let bench = Bench::new();
    fs::write(bench.machine.root.path().join("a"), "inside").unwrap();
    assert_eq!(read(&bench, "/../../a").unwrap(), "inside");
    assert_eq!(read(&bench, "../../a").unwrap(), "inside");
}

#[test]
fn slashes_at_the_end_demand_directories() {
    let bench = Bench::new();
    let root = bench.machine.root.path();
    fs::write(root.join("a"), "x").unwrap();
    fs::create_dir(root.join("d")).unwrap();
    symlink("d", root.join("ld")).unwrap();
    let cx = bench.cx();
    let names = names(&bench);
    assert_eq!(names.stat(&cx, b"/", b"/a/", true), Err(Errno::ENOTDIR));
    assert_eq!(names.stat(&cx, b"/", b"/a/b", true), Err(Errno::ENOTDIR));
    assert!(names.stat(&cx, b"/", b"/d/", false).is_ok());
    let link = names.stat(&cx, b"/", b"/ld/", false).unwrap();
    assert_eq!(link.kind(), FileType::Directory);
    let flags = OpenFlags::CREATE | OpenFlags::WRITE_ONLY;
    assert_eq!(open(&bench, "/new/", flags).unwrap_err(), Errno::EISDIR);
}

#[test]
fn mount_points_show_in_listings_and_cannot_be_removed() {
    let bench = Bench::new();
    fs::create_dir(bench.machine.root.path().join("etc")).unwrap();
    assert_eq!(list(&bench, "/"), ["etc", "tmp"]);
    let cx = bench.cx();
    let names = names(&bench);
    assert_eq!(names.unlink(&cx, b"/", b"/tmp", true), Err(Errno::EBUSY));
    assert_eq!(names.mkdir(&cx, b"/", b"/tmp", 0o755), Err(Errno::EEXIST));
    assert_eq!(
        names.rename(&cx, (b"/", b"/tmp"), (b"/", b"/t"), 0),
        Err(Errno::EBUSY)
    );
    write(&bench, "/tmp/a", "x").unwrap();
    assert_eq!(
        names.rename(&cx, (b"/", b"/tmp/a"), (b"/", b"/etc/a"), 0),
        Err(Errno::EXDEV)
    );
}

#[test]
fn directories_that_only_lead_to_a_region_exist() {
    let bench = Bench::new();
    let cx = bench.cx();
    let quota = Quota::new(1000);
    let single = MemFs::single(&cx, b"/opt/app/secret", 0o400, b"s", &quota).unwrap();
    let names = Arc::new(
        Namespace::new()
            .with(b"/", HostFs::new())
            .with(b"/opt/app/secret", single),
    );
    bench.task.process.files.set_namespace(Arc::clone(&names));
    assert_eq!(read(&bench, "/opt/app/secret").unwrap(), "s");
    assert_eq!(list(&bench, "/"), ["opt"]);
    assert_eq!(list(&bench, "/opt/app"), ["secret"]);
    assert_eq!(read(&bench, "/opt/app/other"), Err(Errno::ENOENT));
}

#[test]
fn walking_asks_the_host_about_a_directory_once() {
    use enclave_abi::call::Op;
    let bench = Bench::new();
    let root = bench.machine.root.path();
    fs::create_dir_all(root.join("usr/lib/x")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(root.join("usr/lib/x").join(name), "1").unwrap();
        read(&bench, &alloc::format!("/usr/lib/x/{name}")).unwrap();
    }
    assert_eq!(bench.machine.count(Op::Stat), 3);
    assert_eq!(bench.machine.count(Op::Open), 3);
}

#[test]
fn a_host_that_sees_links_everywhere_only_denies() {
    use enclave_abi::call::Op;
    let bench = Bench::new();
    bench.machine.lie(|op, _| match op {
        Op::Open | Op::Stat => Some(Err(Errno::ELOOP)),
        Op::Readlink => Some(Err(Errno::EINVAL)),
        _ => None,
    });
    assert_eq!(read(&bench, "/a"), Err(Errno::ELOOP));
    assert_eq!(read(&bench, "/a/b"), Err(Errno::ELOOP));
}

proptest! {
    #[test]
    fn hostile_link_targets_never_panic_and_always_end(
        target in prop::collection::vec(prop::sample::select(b"a./\xff".to_vec()), 0..12),
        path in "[ab./]{1,16}",
    ) {
        use enclave_abi::call::Op;
        use crate::host::Word;
        let bench = Bench::new();
        let mut link = Stat::new(FileType::Symlink, 0o777, 9).encode();
        link[56..64].copy_from_slice(&4096_u64.to_le_bytes());
        bench.machine.lie(move |op, words| match (op, words) {
            (Op::Stat, [_, _, Word::Out(out)]) => {
                out.copy_from_slice(&link);
                Some(Ok(0))
            }
            (Op::Open, _) => Some(Err(Errno::ELOOP)),
            (Op::Readlink, [_, Word::Out(out)]) => {
                out[..target.len()].copy_from_slice(&target);
                Some(Ok(target.len() as u64))
            }
            _ => None,
        });
        let _ = names(&bench).open(&bench.cx(), b"/", path.as_bytes(), OpenFlags::empty(), 0);
        let _ = names(&bench).stat(&bench.cx(), b"/", path.as_bytes(), true);
    }
}

#[test]
fn without_file_systems_nothing_exists() {
    let bench = Bench::new();
    bench
        .task
        .process
        .files
        .set_namespace(Arc::new(Namespace::new()));
    assert_eq!(read(&bench, "/etc/passwd"), Err(Errno::ENOENT));
    let _: Option<Arc<dyn FileSystem>> = None;
}
