// SPDX-License-Identifier: Apache-2.0

use alloc::vec;
use alloc::vec::Vec;

use crate::errno::Errno;
use crate::vfs::OpenFlags;
use crate::vfs::buffer::{Sink, Source};
use crate::vfs::testing::Bench;

fn read(bench: &Bench, path: &str) -> Result<Vec<u8>, Errno> {
    let file = crate::vfs::open(&bench.cx(), path.as_bytes(), OpenFlags::READ_WRITE)?;
    let mut bytes = vec![0xee; 1000];
    let count = file.read(&bench.cx(), &mut Sink::Kernel(&mut bytes))?;
    bytes.truncate(count);
    Ok(bytes)
}

#[test]
fn devices_read_as_their_names_say() {
    let bench = Bench::with_system();
    assert_eq!(read(&bench, "/dev/null").unwrap(), b"");
    assert_eq!(read(&bench, "/dev/zero").unwrap(), [0; 1000]);
    let random = read(&bench, "/dev/urandom").unwrap();
    assert_eq!(random.len(), 1000);
    assert!(random.iter().any(|byte| *byte != 0 && *byte != 0xee));
    assert_eq!(read(&bench, "/dev/sda"), Err(Errno::ENOENT));
}

#[test]
fn full_takes_nothing_and_null_everything() {
    let bench = Bench::with_system();
    let cx = bench.cx();
    let open = |path: &[u8]| crate::vfs::open(&cx, path, OpenFlags::WRITE_ONLY).unwrap();
    assert_eq!(
        open(b"/dev/full").write(&cx, Source::Kernel(b"x")),
        Err(Errno::ENOSPC)
    );
    assert_eq!(open(b"/dev/null").write(&cx, Source::Kernel(b"xyz")), Ok(3));
}

#[test]
fn names_of_descriptors_lead_to_the_same_description() {
    let bench = Bench::with_system();
    let cx = bench.cx();
    let [reader, writer] = crate::vfs::pipe::Pipe::pair(bench.machine);
    let files = &bench.task.process.files;
    let name = alloc::format!("pipe:[{}]", reader.inode()).into_bytes();
    for (end, flags) in [
        (reader, OpenFlags::empty()),
        (writer, OpenFlags::WRITE_ONLY),
    ] {
        let file = crate::vfs::OpenFile::new(bench.machine, end, flags, name.clone());
        files.add(file, false).unwrap();
    }
    let again = crate::vfs::open(&cx, b"/dev/stdout", OpenFlags::WRITE_ONLY).unwrap();
    again.write(&cx, Source::Kernel(b"through")).unwrap();
    assert_eq!(read(&bench, "/dev/stdin").unwrap(), b"through");
    let names = files.namespace();
    let stat = names.stat(&cx, b"/", b"/dev/stdin", true).unwrap();
    assert_eq!(stat.kind(), crate::vfs::stat::FileType::Fifo);
    assert_eq!(names.access(&cx, b"/", b"/dev/stdin", true, 4), Ok(()));
    assert_eq!(names.readlink(&cx, b"/", b"/proc/self/fd/1").unwrap(), name);
}
