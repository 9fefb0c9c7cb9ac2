// SPDX-License-Identifier: Apache-2.0
//! System calls: one dispatch table, one file per call or tight family.

pub mod identity;
pub mod io;
pub mod limits;
pub mod mapping;
pub mod net;
pub mod number;
pub mod restart;
pub mod scheduling;
pub mod signals;
pub mod system;
pub mod threads;
pub mod time;

use enclave_abi::start::LogLevel;

use crate::context::Context;
use crate::errno::Errno;
use crate::process::frame::{Frame, NO_CALL};
use crate::process::{exit, spawn};
use crate::signal;
use number as nr;

/// A call from a rewritten site.
pub fn enter(cx: &Context<'_>, frame: &mut Frame) {
    serve(cx, frame);
    if frame.orig_rax != NO_CALL {
        signal::deliver::before_return(cx, frame);
    }
}

/// Serves the call whose number and arguments the frame holds; its result
/// replaces RAX. Afterwards `orig_rax` is [`NO_CALL`] unless a signal ended the
/// call: then delivery decides whether it starts again.
pub fn serve(cx: &Context<'_>, frame: &mut Frame) {
    let number = frame.orig_rax;
    let result = match number {
        nr::RT_SIGRETURN => {
            if signal::frame::pop(cx, frame).is_err() {
                signal::deliver::kill(cx, signal::SIGSEGV);
            }
            if cx.task.interrupted() {
                signal::deliver::before_return(cx, frame);
            }
            return;
        }
        nr::CLONE => threads::clone(cx, frame),
        nr::CLONE3 => threads::clone3(cx, frame),
        nr::EXIT => exit::thread(cx, frame.rdi as u32),
        nr::EXIT_GROUP => exit::process(cx, (frame.rdi as u32 & 0xff) << 8),
        nr::ARCH_PRCTL => arch_prctl(cx, frame.rdi, frame.rsi),
        _ => dispatch(cx, number, frame.args()),
    };
    frame.rax = match result {
        Ok(value) => value,
        Err(errno) => i64::from(-errno.number()).cast_unsigned(),
    };
    if result != Err(Errno::EINTR) {
        frame.orig_rax = NO_CALL;
    }
}

const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;

/// arch_prctl: FS is the program's, GS the kernel's.
fn arch_prctl(cx: &Context<'_>, code: u64, addr: u64) -> Result<u64, Errno> {
    let cpu = cx.machine.cpu().ok_or(Errno::ENOSYS)?;
    match code {
        ARCH_SET_FS if spawn::is_canonical(addr) => cpu.set_fs_base(addr),
        ARCH_SET_FS => return Err(Errno::EPERM),
        ARCH_GET_FS => cx.write_u64(addr, cpu.fs_base())?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Serves a call that needs no more than its arguments.
///
/// # Errors
/// The errno the program sees; `ENOSYS` for what does not exist.
pub fn dispatch(cx: &Context<'_>, number: u64, args: [u64; 6]) -> Result<u64, Errno> {
    let [a, b, c, d, ..] = args;
    match number {
        nr::MMAP => mapping::mmap(cx, args),
        nr::MPROTECT => mapping::mprotect(cx, a, b, c),
        nr::MUNMAP => mapping::munmap(cx, a, b),
        nr::BRK => mapping::brk(cx, a),
        nr::MREMAP => mapping::mremap(cx, args),
        nr::MADVISE => mapping::madvise(cx, a, b, c),
        nr::MSYNC => mapping::msync(cx, a, b, c),
        nr::MINCORE => mapping::mincore(cx, a, b, c),
        // Enclave memory never goes to a swap file that anybody can read.
        nr::MLOCK | nr::MUNLOCK | nr::MLOCKALL | nr::MUNLOCKALL | nr::MLOCK2 => Ok(0),

        nr::RT_SIGACTION => signals::sigaction(cx, a, b, c, d),
        nr::RT_SIGPROCMASK => signals::sigprocmask(cx, a, b, c, d),
        nr::RT_SIGPENDING => signals::sigpending(cx, a, b),
        nr::RT_SIGTIMEDWAIT => signals::sigtimedwait(cx, a, b, c, d),
        nr::RT_SIGSUSPEND => signals::sigsuspend(cx, a, b),
        nr::RT_SIGQUEUEINFO => signals::sigqueueinfo(cx, a, b, c),
        nr::SIGALTSTACK => signals::sigaltstack(cx, a, b),
        nr::KILL => signals::kill(cx, a, b),
        nr::TKILL => signals::tgkill(cx, None, a, b),
        nr::TGKILL => signals::tgkill(cx, Some(a), b, c),
        nr::SIGNALFD => signals::signalfd(cx, a, b, c, 0),
        nr::SIGNALFD4 => signals::signalfd(cx, a, b, c, d),
        nr::PAUSE => signals::pause(cx),

        nr::FUTEX => crate::sync::futex::call(cx, args),
        nr::SET_TID_ADDRESS => threads::set_tid_address(cx, a),
        nr::SET_ROBUST_LIST => threads::set_robust_list(cx, a, b),
        nr::GET_ROBUST_LIST => threads::get_robust_list(cx, a, b, c),
        nr::WAIT4 => threads::wait4(cx, a, b, c),

        nr::CLOCK_GETTIME => time::clock_gettime(cx, a, b),
        nr::CLOCK_GETRES => time::clock_getres(cx, a, b),
        nr::CLOCK_NANOSLEEP => time::clock_nanosleep(cx, a, b, c, d),
        nr::NANOSLEEP => time::nanosleep(cx, a, b),
        nr::GETTIMEOFDAY => time::gettimeofday(cx, a, b),
        nr::TIME => time::time(cx, a),
        nr::SETITIMER => time::setitimer(cx, a, b, c),
        nr::GETITIMER => time::getitimer(cx, a, b),
        nr::ALARM => time::alarm(cx, a),
        nr::TIMES => time::times(cx, a),
        nr::GETRUSAGE => time::getrusage(cx, a, b),

        nr::UNAME => system::uname(cx, a),
        nr::SYSINFO => system::sysinfo(cx, a),
        nr::GETRANDOM => system::getrandom(cx, a, b, c),
        nr::PRCTL => system::prctl(cx, args),
        nr::MEMBARRIER => system::membarrier(cx, a, b),
        nr::GETCPU => system::getcpu(cx, a, b),

        nr::PRLIMIT64 => limits::prlimit64(cx, a, b, c, d),
        nr::GETRLIMIT => limits::getrlimit(cx, a, b),
        nr::SETRLIMIT => limits::setrlimit(cx, a, b),

        _ => identity::dispatch(cx, number, args)
            .or_else(|| scheduling::dispatch(cx, number, args))
            .or_else(|| io::dispatch(cx, number, args))
            .or_else(|| net::dispatch(cx, number, args))
            .unwrap_or_else(|| {
                crate::log::line(
                    cx.machine,
                    LogLevel::Debug,
                    format_args!("system call {number} does not exist here"),
                );
                Err(Errno::ENOSYS)
            }),
    }
}
