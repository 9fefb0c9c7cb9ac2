// SPDX-License-Identifier: Apache-2.0
//! The host calls that tests need, performed on the real system.

mod sockets;

use alloc::ffi::CString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use enclave_abi::call::Op;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll};
use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io;

use super::TestMachine;
use crate::errno::Errno;
use crate::host::{HostFd, Word};
use crate::vfs::directory::encode_record;
use crate::vfs::file::Record;
use crate::vfs::stat::{FileType, Stat, Time};

fn errno(errno: io::Errno) -> Errno {
    Errno::new(errno.raw_os_error()).unwrap()
}

fn done(result: io::Result<()>) -> Result<u64, Errno> {
    result.map(|()| 0).map_err(errno)
}

fn value(word: &Word<'_>) -> u64 {
    match word {
        Word::Value(value) => *value,
        _ => panic!("a number is expected"),
    }
}

fn fd_of(word: &Word<'_>) -> HostFd {
    match word {
        Word::Fd(fd) => *fd,
        _ => panic!("a descriptor is expected"),
    }
}

fn room(word: &Word<'_>) -> usize {
    match word {
        Word::Out(room) => room.len(),
        Word::OutUser(slice) => slice.len,
        _ => panic!("an output buffer is expected"),
    }
}

fn timespec(ns: u64) -> Option<Timespec> {
    (ns != u64::MAX).then_some(Timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    })
}

fn encode(stat: &fs::Stat) -> [u8; Stat::LEN] {
    let time = |seconds: i64, nanos: u64| Time {
        seconds,
        nanos: nanos as u32,
    };
    Stat {
        device: stat.st_dev,
        inode: stat.st_ino,
        links: stat.st_nlink,
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev,
        size: stat.st_size as u64,
        block_size: stat.st_blksize as u64,
        blocks: stat.st_blocks as u64,
        accessed: time(stat.st_atime, stat.st_atime_nsec),
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
    }
    .encode()
}

impl TestMachine {
    fn path(&self, word: &Word<'_>) -> Result<CString, Errno> {
        let bytes = self.bytes_in(word)?;
        assert!(bytes.starts_with(b"/"), "host paths are absolute");
        Ok(CString::new(bytes).unwrap())
    }

    /// The directory of a path, opened below the root, and the last name.
    fn parent(&self, word: &Word<'_>) -> Result<(OwnedFd, CString), Errno> {
        let path = self.path(word)?;
        let (parent, name) = crate::vfs::path::split(path.as_bytes());
        let name = if name.is_empty() { b"." } else { name };
        let parent = fs::openat2(
            self.as_fd(),
            CString::new(parent).unwrap(),
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
        .map_err(errno)?;
        Ok((parent, CString::new(name).unwrap()))
    }

    fn handle(&self, word: &Word<'_>) -> Result<Arc<OwnedFd>, Errno> {
        self.fd(fd_of(word))
    }
}

pub(super) fn perform(m: &TestMachine, op: Op, words: &mut [Word<'_>]) -> Result<u64, Errno> {
    let follow = |word: &Word<'_>| {
        if value(word) == 0 {
            AtFlags::SYMLINK_NOFOLLOW
        } else {
            AtFlags::empty()
        }
    };
    match (op, words) {
        (Op::Park, [timeout]) => {
            m.parking.park(value(timeout));
            Ok(0)
        }
        (Op::Unpark, [_]) => {
            m.parking.unpark();
            Ok(0)
        }
        (Op::ClockGettime, [clock, out]) => {
            let clock = match value(clock) {
                0 => rustix::time::ClockId::Realtime,
                1 => rustix::time::ClockId::Monotonic,
                2 => rustix::time::ClockId::ProcessCPUTime,
                3 => rustix::time::ClockId::ThreadCPUTime,
                other => panic!("clock {other}"),
            };
            let now = rustix::time::clock_gettime(clock);
            let mut bytes = (now.tv_sec as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(&(now.tv_nsec as u64).to_le_bytes());
            m.put_out(out, &bytes)?;
            Ok(0)
        }
        (Op::Open, [path, flags, mode]) => {
            let path = m.path(path)?;
            let flags = OFlags::from_bits_retain(value(flags) as u32);
            let mode = if flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE) {
                Mode::from_bits_retain(value(mode) as u32)
            } else {
                Mode::empty()
            };
            let opened = fs::openat2(m.as_fd(), path, flags, mode, ResolveFlags::IN_ROOT);
            opened.map(|fd| m.keep(fd)).map_err(errno)
        }
        (Op::Close, [fd]) => {
            let number = fd_of(fd).word() as u32;
            let closed = m.fds.lock().unwrap().remove(&number);
            closed.map(|_| 0).ok_or(Errno::EBADF)
        }
        (Op::Read, [fd, out]) => {
            let mut bytes = vec![0; room(out)];
            let count = io::read(m.handle(fd)?.as_ref(), &mut bytes).map_err(errno)?;
            m.put_out(out, &bytes[..count])?;
            Ok(count as u64)
        }
        (Op::Write, [fd, data]) => {
            let bytes = m.bytes_in(data)?;
            let count = io::write(m.handle(fd)?.as_ref(), &bytes).map_err(errno)?;
            Ok(count as u64)
        }
        (Op::Pread, [fd, out, at]) => {
            let mut bytes = vec![0; room(out)];
            let count = io::pread(m.handle(fd)?.as_ref(), &mut bytes, value(at)).map_err(errno)?;
            m.put_out(out, &bytes[..count])?;
            Ok(count as u64)
        }
        (Op::Pwrite, [fd, data, at]) => {
            let bytes = m.bytes_in(data)?;
            let count = io::pwrite(m.handle(fd)?.as_ref(), &bytes, value(at)).map_err(errno)?;
            Ok(count as u64)
        }
        (Op::Fstat, [fd, out]) => {
            let stat = fs::fstat(m.handle(fd)?.as_ref()).map_err(errno)?;
            m.put_out(out, &encode(&stat))?;
            Ok(0)
        }
        (Op::Stat, [path, follows, out]) => {
            let (parent, name) = m.parent(path)?;
            let stat = fs::statat(parent, name, follow(follows)).map_err(errno)?;
            m.put_out(out, &encode(&stat))?;
            Ok(0)
        }
        (Op::Readlink, [path, out]) => {
            let (parent, name) = m.parent(path)?;
            let target = fs::readlinkat(parent, name, Vec::new()).map_err(errno)?;
            let bytes = target.as_bytes();
            let bytes = &bytes[..bytes.len().min(room(out))];
            m.put_out(out, bytes)?;
            Ok(bytes.len() as u64)
        }
        (Op::Getdents, [fd, out]) => getdents(m, m.handle(fd)?.as_ref(), out),
        (Op::Lseek, [fd, at, _]) => {
            let position = fs::SeekFrom::Start(value(at));
            fs::seek(m.handle(fd)?.as_ref(), position).map_err(errno)
        }
        (Op::Ftruncate, [fd, len]) => done(fs::ftruncate(m.handle(fd)?.as_ref(), value(len))),
        (Op::Fsync, [fd, _]) => done(fs::fsync(m.handle(fd)?.as_ref())),
        (Op::Unlink, [path, directory]) => {
            let (parent, name) = m.parent(path)?;
            let flags = if value(directory) == 0 {
                AtFlags::empty()
            } else {
                AtFlags::REMOVEDIR
            };
            done(fs::unlinkat(parent, name, flags))
        }
        (Op::Rename, [from, to, flags]) => {
            let (from, from_name) = m.parent(from)?;
            let (to, to_name) = m.parent(to)?;
            let flags = fs::RenameFlags::from_bits_retain(value(flags) as u32);
            done(fs::renameat_with(from, from_name, to, to_name, flags))
        }
        (Op::Mkdir, [path, mode]) => {
            let (parent, name) = m.parent(path)?;
            let mode = Mode::from_bits_retain(value(mode) as u32);
            done(fs::mkdirat(parent, name, mode))
        }
        (Op::Symlink, [target, path]) => {
            let target = CString::new(m.bytes_in(target)?).unwrap();
            let (parent, name) = m.parent(path)?;
            done(fs::symlinkat(target, parent, name))
        }
        (Op::Link, [from, to]) => {
            let (from, from_name) = m.parent(from)?;
            let (to, to_name) = m.parent(to)?;
            done(fs::linkat(from, from_name, to, to_name, AtFlags::empty()))
        }
        (Op::Chmod, [path, mode]) => {
            let (parent, name) = m.parent(path)?;
            let mode = Mode::from_bits_retain(value(mode) as u32);
            done(fs::chmodat(parent, name, mode, AtFlags::empty()))
        }
        (Op::Utimens, [path, times, follows]) => {
            let (parent, name) = m.parent(path)?;
            let bytes = m.bytes_in(times)?;
            let word = |at: usize| i64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            let time = |at: usize| Timespec {
                tv_sec: word(at),
                tv_nsec: word(at + 8),
            };
            let times = fs::Timestamps {
                last_access: time(0),
                last_modification: time(16),
            };
            done(fs::utimensat(parent, name, &times, follow(follows)))
        }
        (Op::Access, [path, mode]) => {
            let (parent, name) = m.parent(path)?;
            let access = fs::Access::from_bits_retain(value(mode) as u32);
            done(fs::accessat(parent, name, access, AtFlags::empty()))
        }
        (Op::Statfs, [path, out]) => {
            m.parent(path)?;
            m.put_out(out, &[0; 120])?;
            Ok(0)
        }
        (Op::Flock, [fd, operation]) => {
            let operation = match value(operation) {
                1 => fs::FlockOperation::LockShared,
                2 => fs::FlockOperation::LockExclusive,
                6 => fs::FlockOperation::NonBlockingLockExclusive,
                5 => fs::FlockOperation::NonBlockingLockShared,
                _ => fs::FlockOperation::Unlock,
            };
            done(fs::flock(m.handle(fd)?.as_ref(), operation))
        }
        (Op::SetFlags, [fd, flags]) => {
            let flags = OFlags::from_bits_retain(value(flags) as u32);
            done(fs::fcntl_setfl(m.handle(fd)?.as_ref(), flags))
        }
        (Op::Poll, [given, out, timeout]) => poll(m, given, out, value(timeout)),
        (Op::Eventfd, [initial, flags]) => {
            let flags = EventfdFlags::from_bits_retain(value(flags) as u32);
            rustix::event::eventfd(value(initial) as u32, flags)
                .map(|fd| m.keep(fd))
                .map_err(errno)
        }
        (Op::EpollCreate, [_]) => epoll::create(epoll::CreateFlags::CLOEXEC)
            .map(|fd| m.keep(fd))
            .map_err(errno),
        (Op::EpollCtl, [set, operation, fd, events, data]) => {
            let (set, fd) = (m.handle(set)?, m.handle(fd)?);
            let data = epoll::EventData::new_u64(value(data));
            let flags = epoll::EventFlags::from_bits_retain(value(events) as u32);
            done(match value(operation) {
                1 => epoll::add(set.as_ref(), fd.as_ref(), data, flags),
                2 => epoll::delete(set.as_ref(), fd.as_ref()),
                _ => epoll::modify(set.as_ref(), fd.as_ref(), data, flags),
            })
        }
        (Op::EpollWait, [set, out, timeout]) => {
            let max = room(out) / 12;
            let mut events = Vec::with_capacity(max);
            let timeout = timespec(value(timeout));
            let buffer = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(m.handle(set)?.as_ref(), buffer, timeout.as_ref()).map_err(errno)?;
            let mut bytes = Vec::new();
            for event in &events {
                let (flags, data) = (event.flags, event.data);
                bytes.extend_from_slice(&flags.bits().to_le_bytes());
                bytes.extend_from_slice(&data.u64().to_le_bytes());
            }
            m.put_out(out, &bytes)?;
            Ok(events.len() as u64)
        }
        (op, words) => sockets::perform(m, op, words),
    }
}

fn poll(m: &TestMachine, given: &Word<'_>, out: &mut Word<'_>, timeout: u64) -> Result<u64, Errno> {
    let bytes = m.bytes_in(given)?;
    let mut handles = Vec::new();
    for entry in bytes.chunks_exact(8) {
        let number = u32::from_le_bytes(entry[..4].try_into().unwrap());
        let fd = HostFd::from_result(number.into()).unwrap();
        let events = u16::from_le_bytes(entry[4..6].try_into().unwrap());
        handles.push((number, m.fd(fd)?, events));
    }
    let mut polled: Vec<PollFd<'_>> = handles
        .iter()
        .map(|(_, fd, events)| PollFd::new(fd.as_ref(), PollFlags::from_bits_retain(*events)))
        .collect();
    let count = rustix::event::poll(&mut polled, timespec(timeout).as_ref()).map_err(errno)?;
    let mut answer = Vec::new();
    for ((number, _, events), polled) in handles.iter().zip(&polled) {
        answer.extend_from_slice(&number.to_le_bytes());
        answer.extend_from_slice(&events.to_le_bytes());
        answer.extend_from_slice(&polled.revents().bits().to_le_bytes());
    }
    m.put_out(out, &answer)?;
    Ok(count as u64)
}

fn getdents(m: &TestMachine, fd: &OwnedFd, out: &mut Word<'_>) -> Result<u64, Errno> {
    // Our own records are as long as the kernel's, so the buffer fits both.
    let mut space = vec![MaybeUninit::uninit(); room(out)];
    let mut directory = fs::RawDir::new(fd, &mut space);
    let mut bytes = Vec::new();
    while let Some(entry) = directory.next() {
        let entry = entry.map_err(errno)?;
        let record = Record {
            name: entry.file_name().to_bytes().to_vec(),
            inode: entry.ino(),
            kind: match entry.file_type() {
                fs::FileType::Directory => FileType::Directory,
                fs::FileType::Symlink => FileType::Symlink,
                fs::FileType::Fifo => FileType::Fifo,
                fs::FileType::Socket => FileType::Socket,
                _ => FileType::Regular,
            },
        };
        encode_record(&mut bytes, &record, 0);
        if directory.is_buffer_empty() {
            break;
        }
    }
    m.put_out(out, &bytes)?;
    Ok(bytes.len() as u64)
}
