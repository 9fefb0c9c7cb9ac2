// SPDX-License-Identifier: Apache-2.0
//! A machine for tests: it performs the closed list of host calls on the real
//! system, below a temporary directory, as the launcher does.

mod calls;
mod park;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use enclave_abi::call::Op;
use sgx::key::KeyRequest;
use sgx::report::{Report, TargetInfo};

use crate::context::Context;
use crate::errno::Errno;
use crate::host::{HostFd, Machine, UserSlice, Word};
use crate::process::Task;
use crate::vfs::hostfs::HostFs;
use crate::vfs::memfs::{MemFs, Quota};
use crate::vfs::{Namespace, ProcessFiles};

/// First address of the memory that plays the program's.
pub(crate) const USER: u64 = 0x10_0000;
/// Its length.
pub(crate) const USER_LEN: usize = 8 << 20;

/// Decides before a call reaches the system what the host answers.
type Lie = Box<dyn Fn(Op, &mut [Word<'_>]) -> Option<Result<u64, Errno>> + Send + Sync>;

/// A machine that performs host calls on the real system.
pub(crate) struct TestMachine {
    pub(crate) root: tempfile::TempDir,
    root_fd: OwnedFd,
    fds: Mutex<BTreeMap<u32, Arc<OwnedFd>>>,
    user: Mutex<Vec<u8>>,
    parking: park::Parking,
    lie: Mutex<Option<Arc<Lie>>>,
    calls: Mutex<BTreeMap<Op, u64>>,
}

impl TestMachine {
    fn new() -> &'static Self {
        let root = tempfile::tempdir().unwrap();
        let root_fd = rustix::fs::open(
            root.path(),
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        Box::leak(Box::new(Self {
            root,
            root_fd,
            fds: Mutex::default(),
            user: Mutex::new(alloc::vec![0; USER_LEN]),
            parking: park::Parking::default(),
            lie: Mutex::default(),
            calls: Mutex::default(),
        }))
    }

    /// Lets the host lie from now on.
    pub(crate) fn lie(
        &self,
        lie: impl Fn(Op, &mut [Word<'_>]) -> Option<Result<u64, Errno>> + Send + Sync + 'static,
    ) {
        *self.lie.lock().unwrap() = Some(Arc::new(Box::new(lie)));
    }

    /// How often a call was made.
    pub(crate) fn count(&self, op: Op) -> u64 {
        self.calls.lock().unwrap().get(&op).copied().unwrap_or(0)
    }

    /// Host descriptors that are open.
    pub(crate) fn open_fds(&self) -> usize {
        self.fds.lock().unwrap().len()
    }

    fn keep(&self, fd: OwnedFd) -> u64 {
        let mut fds = self.fds.lock().unwrap();
        let number = (3..).find(|number| !fds.contains_key(number)).unwrap();
        fds.insert(number, Arc::new(fd));
        number.into()
    }

    fn fd(&self, fd: HostFd) -> Result<Arc<OwnedFd>, Errno> {
        let fds = self.fds.lock().unwrap();
        fds.get(&(fd.word() as u32)).cloned().ok_or(Errno::EBADF)
    }

    fn user_range(&self, addr: u64, len: usize) -> Result<core::ops::Range<usize>, Errno> {
        let start = usize::try_from(addr.checked_sub(USER).ok_or(Errno::EFAULT)?).unwrap();
        let end = start.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > USER_LEN {
            return Err(Errno::EFAULT);
        }
        Ok(start..end)
    }

    fn bytes_in(&self, word: &Word<'_>) -> Result<Vec<u8>, Errno> {
        match word {
            Word::In(bytes) => Ok(bytes.to_vec()),
            Word::InUser(slice) => {
                let mut out = alloc::vec![0; slice.len];
                self.read_user(slice.addr, &mut out)?;
                Ok(out)
            }
            _ => panic!("an input buffer is expected"),
        }
    }

    fn put_out(&self, word: &mut Word<'_>, bytes: &[u8]) -> Result<(), Errno> {
        match word {
            Word::Out(room) => {
                room[..bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            Word::OutUser(UserSlice { addr, len }) => {
                assert!(bytes.len() <= *len);
                self.write_user(*addr, bytes)
            }
            _ => panic!("an output buffer is expected"),
        }
    }
}

impl Machine for TestMachine {
    fn host_call(&self, op: Op, words: &mut [Word<'_>]) -> Result<u64, Errno> {
        *self.calls.lock().unwrap().entry(op).or_default() += 1;
        let lie = self.lie.lock().unwrap().clone();
        if let Some(answer) = lie.and_then(|lie| lie(op, words)) {
            return answer;
        }
        calls::perform(self, op, words)
    }

    fn read_user(&self, from: u64, to: &mut [u8]) -> Result<(), Errno> {
        let range = self.user_range(from, to.len())?;
        to.copy_from_slice(&self.user.lock().unwrap()[range]);
        Ok(())
    }

    fn write_user(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        let range = self.user_range(to, from.len())?;
        self.user.lock().unwrap()[range].copy_from_slice(from);
        Ok(())
    }

    fn random(&self, out: &mut [u8]) {
        for (at, byte) in out.iter_mut().enumerate() {
            *byte = (at as u8).wrapping_mul(31).wrapping_add(7);
        }
    }

    fn report(&self, _target: &TargetInfo, report_data: &[u8; 64]) -> Report {
        let mut bytes = [0; Report::SIZE];
        bytes[320..384].copy_from_slice(report_data);
        Report::from_bytes(&bytes)
    }

    fn key(&self, _request: &KeyRequest) -> Result<[u8; 16], Errno> {
        Ok([0x5a; 16])
    }
}

/// A machine with one process and one thread.
pub(crate) struct Bench {
    pub(crate) machine: &'static TestMachine,
    pub(crate) task: Arc<Task>,
}

impl Bench {
    /// Host files at `/`, memory at `/tmp`.
    pub(crate) fn new() -> Self {
        let machine = TestMachine::new();
        let task = Task::detached(1, ProcessFiles::default());
        let bench = Self { machine, task };
        let quota = Quota::new(64 << 20);
        let tmp = MemFs::new(&bench.cx(), b"/tmp", 0o1777, &quota);
        let namespace = Namespace::new()
            .with(b"/", HostFs::new())
            .with(b"/tmp", tmp);
        bench.task.process.files.set_namespace(Arc::new(namespace));
        bench
    }

    /// The same with /proc, /sys and /dev.
    pub(crate) fn with_system() -> Self {
        let bench = Self::new();
        let namespace = Namespace::clone(&bench.task.process.files.namespace())
            .with(b"/proc", crate::vfs::procfs::new())
            .with(b"/sys", crate::vfs::sysfs::new())
            .with(b"/dev", crate::vfs::devfs::new());
        bench.task.process.files.set_namespace(Arc::new(namespace));
        bench
    }

    pub(crate) fn cx(&self) -> Context<'_> {
        Context {
            machine: self.machine,
            task: &self.task,
        }
    }

    /// Another thread of the same process.
    pub(crate) fn other(&self) -> Self {
        Self {
            machine: self.machine,
            task: Arc::clone(&self.task),
        }
    }

    /// Performs a system call.
    pub(crate) fn call(&self, number: u64, args: &[u64]) -> Result<u64, Errno> {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        crate::syscall::io::dispatch(&self.cx(), number, all).unwrap_or(Err(Errno::ENOSYS))
    }

    /// Puts bytes into the program's memory.
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) -> u64 {
        self.machine.write_user(USER + at, bytes).unwrap();
        USER + at
    }

    /// Puts a string with its NUL.
    pub(crate) fn text(&self, at: u64, text: &str) -> u64 {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.put(at, &bytes)
    }

    /// Takes bytes from the program's memory.
    pub(crate) fn take(&self, at: u64, len: usize) -> Vec<u8> {
        let mut out = alloc::vec![0; len];
        self.machine.read_user(USER + at, &mut out).unwrap();
        out
    }
}

impl AsFd for TestMachine {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.root_fd.as_fd()
    }
}
