// SPDX-License-Identifier: Apache-2.0
//! Host threads: each serves one TCS in a loop of entries and exits.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use enclave_abi::call::{AREA_LEN, HINT_MASK, Op};
use enclave_abi::entry::{AbortReason, Exit};
use enclave_abi::layout::{Layout, thread};

use crate::area::{AreaMemory, CallArea};
use crate::backend::{Backend, Outcome, Processor};
use crate::calls::{self, Host};
use crate::interrupt;
use crate::log;
use crate::signals;

/// How long a thread waits for the last one to leave its TCS.
const BUSY_PATIENCE: u32 = 50_000;
/// How often a first entry that was refused is tried again.
const REFUSED_PATIENCE: u32 = 1000;

/// What the rest of the process knows of one thread.
#[derive(Debug)]
pub struct ThreadState {
    index: u32,
    pending: Arc<AtomicU64>,
    /// 1 while a wake token is kept.
    token: AtomicU32,
    /// Kernel thread id while the thread lives, else 0.
    tid: AtomicI32,
}

impl ThreadState {
    fn new(index: u32) -> Arc<Self> {
        Arc::new(Self {
            index,
            pending: Arc::default(),
            token: AtomicU32::new(0),
            tid: AtomicI32::new(0),
        })
    }

    /// The thread's number, as the enclave counts.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Signals and kicks that the thread has not yet carried inside.
    #[must_use]
    pub fn pending(&self) -> &AtomicU64 {
        &self.pending
    }

    /// Makes the thread leave the enclave or a blocking call.
    fn kick(&self) -> bool {
        let tid = self.tid.load(Ordering::SeqCst);
        if tid == 0 {
            return false;
        }
        // SAFETY: asks for this process's id.
        let pid = unsafe { libc::getpid() };
        // SAFETY: sends a signal to a thread of this process. If it has ended,
        // the kernel answers ESRCH, or a newer thread of ours hears a kick that
        // it does not need.
        unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signals::kick_signal()) == 0 }
    }

    fn wake(&self) {
        if self.token.swap(1, Ordering::SeqCst) == 0 {
            // SAFETY: wakes waiters on a word of this process.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.token.as_ptr(),
                    libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                    1,
                );
            }
        }
    }

    /// Waits for a token; a negated errno tells why there was none.
    fn park(&self, timeout_ns: u64) -> i64 {
        let deadline = (timeout_ns != u64::MAX).then(|| now() + Duration::from_nanos(timeout_ns));
        loop {
            if self.token.swap(0, Ordering::SeqCst) == 1 {
                return 0;
            }
            let until = deadline.map(|deadline| libc::timespec {
                tv_sec: i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(deadline.subsec_nanos()),
            });
            let until = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // An absolute deadline on CLOCK_MONOTONIC, unlike FUTEX_WAIT's.
            let operation = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG;
            let args = [
                self.token.as_ptr() as u64,
                u64::from(operation.cast_unsigned()),
                0,
                until as u64,
                0,
                u64::from(u32::MAX),
            ];
            // SAFETY: word and time live longer than the call.
            let result = unsafe { interrupt::cancellable(&self.pending, libc::SYS_futex, args) };
            let error = i32::try_from(-result).unwrap_or(0);
            if matches!(error, libc::ETIMEDOUT | libc::EINTR) {
                if self.token.swap(0, Ordering::SeqCst) == 1 {
                    return 0;
                }
                return -i64::from(error);
            }
        }
    }
}

fn now() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: fills the value given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The enclave and everything that serves it.
pub struct Running {
    backend: Arc<dyn Backend>,
    layout: Layout,
    host: Host,
    threads: Vec<Arc<ThreadState>>,
    forwarded: Vec<i32>,
    /// Signals of threads that ended before they could carry them inside.
    orphans: AtomicU64,
    this: Weak<Self>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Prepares to run. Blocks the signals that will be passed on: every thread
    /// of the process that is not an enclave thread must inherit that.
    ///
    /// # Errors
    /// What the kernel or the backend refuses about signals.
    pub fn new(backend: Arc<dyn Backend>, layout: Layout, host: Host) -> anyhow::Result<Arc<Self>> {
        let forwarded = signals::forwarded()?;
        signals::set_blocked(&forwarded, true);
        backend.install_signals(&forwarded, signals::on_signal)?;
        signals::settle_process();
        let threads = (0..layout.thread_count).map(ThreadState::new).collect();
        Ok(Arc::new_cyclic(|this| Self {
            backend,
            layout,
            host,
            threads,
            forwarded,
            orphans: AtomicU64::new(0),
            this: Weak::clone(this),
        }))
    }

    /// Runs the enclave's first thread on the calling one. Returns only if the
    /// thread cannot be prepared: else the process ends with the enclave.
    ///
    /// # Errors
    /// What keeps the thread from entering.
    pub fn run(&self, start_block: &[u8]) -> anyhow::Result<std::convert::Infallible> {
        let state = self.threads.first().ok_or_else(no_thread)?;
        self.serve(state, start_block)?;
        // The first thread has ended, others go on; `Op::Exit` ends the process.
        loop {
            // SAFETY: sleeps; signals are blocked in this thread by now.
            unsafe { libc::pause() };
        }
    }

    fn spawn(&self, index: u64) -> i64 {
        let state = usize::try_from(index)
            .ok()
            .and_then(|index| self.threads.get(index));
        let (Some(state), Some(this)) = (state, self.this.upgrade()) else {
            return -i64::from(libc::EINVAL);
        };
        let state = Arc::clone(state);
        // The new thread must not hear signals before it can handle them.
        signals::set_blocked(&self.forwarded, true);
        let spawned = std::thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || {
                if let Err(error) = this.serve(&state, &[]) {
                    log::fatal(format_args!("enclave thread {}: {error:#}", state.index));
                    signals::die_by(libc::SIGABRT);
                }
            });
        signals::set_blocked(&self.forwarded, false);
        match spawned {
            Ok(_) => 0,
            Err(error) => -i64::from(error.raw_os_error().unwrap_or(libc::EAGAIN)),
        }
    }

    /// Serves one TCS until its thread ends.
    fn serve(&self, state: &Arc<ThreadState>, start_block: &[u8]) -> anyhow::Result<()> {
        let memory = AreaMemory::map()?;
        // SAFETY: `memory` outlives the area and nothing else wraps it.
        let mut area = unsafe { CallArea::new(memory.base()) };
        area.data()
            .get_mut(..start_block.len())
            .context("the start block is longer than the call area")?
            .copy_from_slice(start_block);
        let tcs = self.layout.thread(state.index) + thread::TCS;
        let mut processor = self.attach(tcs, state)?;
        let adopted = signals::adopt(state);
        // SAFETY: asks for this thread's id.
        let tid = unsafe { libc::gettid() };
        state.tid.store(tid, Ordering::SeqCst);
        self.adopt_orphans(state);
        signals::set_blocked(&self.forwarded, false);
        let mut serving = Serving {
            running: self,
            state,
            processor: &mut *processor,
            area: &mut area,
            host: self.host.of_thread(&state.pending),
            hints: 0,
            frames: 0,
        };
        let ended = serving.run(start_block.len());
        // From here on the thread cannot handle signals any more.
        signals::set_blocked(&self.forwarded, true);
        ended?;
        state.tid.store(0, Ordering::SeqCst);
        drop(adopted);
        self.hand_over(state);
        Ok(())
    }

    fn attach(&self, tcs: u64, state: &ThreadState) -> anyhow::Result<Box<dyn Processor>> {
        for _ in 0..BUSY_PATIENCE {
            if let Some(processor) = self.backend.attach(tcs, &state.pending)? {
                return Ok(processor);
            }
            // The last thread is on its way out: it has told the enclave that
            // it ends before it left the TCS.
            std::thread::sleep(Duration::from_micros(100));
        }
        anyhow::bail!("the TCS at {tcs:#x} stays busy")
    }

    /// Gives signals that an ended thread has not carried inside to another.
    fn hand_over(&self, state: &ThreadState) {
        let left = state.pending.swap(0, Ordering::SeqCst) & HINT_MASK;
        if left == 0 {
            return;
        }
        // A thread that starts takes them, unless one that runs does.
        self.orphans.fetch_or(left, Ordering::SeqCst);
        for other in &self.threads {
            if other.tid.load(Ordering::SeqCst) != 0 {
                self.adopt_orphans(other);
                other.kick();
                return;
            }
        }
    }

    fn adopt_orphans(&self, state: &ThreadState) {
        let orphans = self.orphans.swap(0, Ordering::SeqCst);
        state.pending.fetch_or(orphans, Ordering::SeqCst);
    }

    fn kick(&self, caller: &ThreadState, index: u64) -> i64 {
        if index == u64::MAX {
            for other in &self.threads {
                if other.index != caller.index {
                    other.kick();
                }
            }
            return 0;
        }
        match usize::try_from(index)
            .ok()
            .and_then(|index| self.threads.get(index))
        {
            Some(other) if other.kick() => 0,
            Some(_) => -i64::from(libc::ESRCH),
            None => -i64::from(libc::EINVAL),
        }
    }

    fn unpark(&self, index: u64) -> i64 {
        match usize::try_from(index)
            .ok()
            .and_then(|index| self.threads.get(index))
        {
            Some(other) => {
                other.wake();
                0
            }
            None => -i64::from(libc::EINVAL),
        }
    }
}

fn no_thread() -> anyhow::Error {
    anyhow::anyhow!("the enclave image declares no thread")
}

/// What a call asks of the loop.
enum Next {
    Enter,
    End,
}

struct Serving<'a> {
    running: &'a Running,
    state: &'a Arc<ThreadState>,
    processor: &'a mut dyn Processor,
    area: &'a mut CallArea,
    host: Host,
    /// Hints taken from the pending word and not yet carried inside.
    hints: u64,
    /// SSA frames in use.
    frames: u32,
}

impl Serving<'_> {
    fn run(&mut self, start_len: usize) -> anyhow::Result<()> {
        let address = self.area.address();
        let mut patience = REFUSED_PATIENCE;
        let mut outcome = loop {
            self.take_pending();
            let first = self
                .processor
                .enter(address, AREA_LEN as u64, start_len as u64);
            match first {
                Outcome::NotEntered => {}
                // Silicon refuses while the last thread is still leaving the TCS.
                Outcome::Refused if patience > 0 => {
                    patience -= 1;
                    std::thread::sleep(Duration::from_micros(100));
                }
                other => break other,
            }
        };
        // The first entry has no room for hints, and no blocking call may be
        // served while some are due.
        let early = std::mem::take(&mut self.hints);
        self.state.pending.fetch_or(early, Ordering::SeqCst);
        loop {
            outcome = match outcome {
                Outcome::Exit { number, argument } => match Exit::from_number(number) {
                    Some(Exit::Call) => match self.call() {
                        Next::Enter => self.enter(),
                        Next::End => return Ok(()),
                    },
                    Some(Exit::Resume) => self.resume_or_hint(),
                    Some(Exit::Abort) => abort(argument),
                    None => anyhow::bail!("the enclave left with the unknown number {number}"),
                },
                Outcome::Asynchronous { exception } => {
                    self.frames += 1;
                    if self.frames > 1 && !exception {
                        // A signal interrupted the enclave's handler. Frames are
                        // few: it goes on, and hears of the signal at its end.
                        self.resume_handler()
                    } else {
                        self.enter()
                    }
                }
                Outcome::NotEntered => anyhow::bail!("an entry was abandoned without cause"),
                Outcome::Refused => anyhow::bail!(
                    "the processor refused to enter: an exception happened while the enclave's own handlers ran"
                ),
            };
        }
    }

    /// The enclave's handler has ended: goes on with what it handled, unless
    /// there is more to tell.
    fn resume_or_hint(&mut self) -> Outcome {
        loop {
            self.take_pending();
            if self.hints != 0 {
                return self.enter();
            }
            if let Some(outcome) = self.try_resume() {
                return outcome;
            }
        }
    }

    /// Goes on with an interrupted handler, whatever is pending.
    fn resume_handler(&mut self) -> Outcome {
        loop {
            self.take_pending();
            if let Some(outcome) = self.try_resume() {
                return outcome;
            }
        }
    }

    fn try_resume(&mut self) -> Option<Outcome> {
        let outcome = self.processor.resume();
        if outcome == Outcome::NotEntered {
            return None;
        }
        self.frames = self.frames.saturating_sub(1);
        Some(outcome)
    }

    fn enter(&mut self) -> Outcome {
        loop {
            self.take_pending();
            let hints = std::mem::take(&mut self.hints);
            match self.processor.enter(hints, 0, 0) {
                Outcome::NotEntered => self.hints |= hints,
                other => return other,
            }
        }
    }

    fn take_pending(&mut self) {
        if self.state.pending.load(Ordering::Relaxed) != 0 {
            self.hints |= self.state.pending.swap(0, Ordering::SeqCst) & HINT_MASK;
        }
    }

    fn call(&mut self) -> Next {
        let running = self.running;
        let op = Op::from_number(self.area.op());
        if let Some(result) = op.and_then(|op| calls::serve(&self.host, op, self.area)) {
            #[cfg(feature = "hostile")]
            let result = match &self.host.plan {
                Some(plan) => plan.spoil(op, self.area, result),
                None => result,
            };
            self.area.set_result(result);
            return Next::Enter;
        }
        let word = |at| self.area.word(at);
        let result = match op {
            Some(Op::Exit) => {
                // SAFETY: ends the process at once; other threads may be inside.
                unsafe { libc::_exit(exit_status(word(0))) }
            }
            Some(Op::DieBySignal) => signals::die_by(deadly(word(0))),
            Some(Op::ThreadExit) => return Next::End,
            Some(Op::Spawn) => running.spawn(word(0)),
            Some(Op::Park) => self.state.park(word(0)),
            Some(Op::Unpark) => running.unpark(word(0)),
            // The signal's number is the enclave's affair.
            Some(Op::Kick) => running.kick(self.state, word(1)),
            Some(Op::Restrict) => status(running.backend.restrict(word(0), word(1), word(2))),
            Some(Op::Trim) => status(running.backend.trim(word(0), word(1))),
            Some(Op::Remove) => status(running.backend.remove(word(0), word(1))),
            _ => -i64::from(libc::ENOSYS),
        };
        self.area.set_result(result);
        Next::Enter
    }
}

fn status(result: Result<(), i32>) -> i64 {
    result.map_or_else(|errno| -i64::from(errno), |()| 0)
}

fn exit_status(word: u64) -> i32 {
    i32::from(word.to_le_bytes()[0])
}

/// A signal that may end a process; anything else ends it like abort.
fn deadly(word: u64) -> i32 {
    match i32::try_from(word) {
        Ok(signal @ 1..=31) => signal,
        _ => libc::SIGABRT,
    }
}

fn abort(reason: u64) -> ! {
    let text = match reason {
        reason if reason == AbortReason::Panic as u64 => "its kernel panicked",
        reason if reason == AbortReason::BadEntry as u64 => "it was entered against the rules",
        reason if reason == AbortReason::KernelFault as u64 => "its kernel faulted",
        reason if reason == AbortReason::HostLied as u64 => {
            "an answer of the host breaks the rules"
        }
        reason if reason == AbortReason::BadImage as u64 => "its measured data do not fit together",
        reason if reason == AbortReason::NoEntropy as u64 => "RDRAND gives no random numbers",
        reason if reason == AbortReason::OutOfMemory as u64 => "its kernel is out of memory",
        reason if reason == AbortReason::FaultInjected as u64 => {
            "page faults came that its own map says cannot happen"
        }
        reason if reason == AbortReason::Tampered as u64 => {
            "a file is not the one that the session or the measurement names"
        }
        _ => "it gave a reason that this launcher does not know",
    };
    log::fatal(format_args!(
        "the enclave gave up (reason {reason}): {text}"
    ));
    signals::die_by(libc::SIGABRT)
}
