// SPDX-License-Identifier: Apache-2.0
//! Boot: process 1 and what it may be started with (rule S8).

use alloc::sync::Arc;
use alloc::vec::Vec;

use enclave_abi::manifest::{Dlopen, Manifest, ProgramConfig, StartMode};
use enclave_abi::start::StartBlock;
use enclave_abi::startup::StartupList;
use thiserror::Error;

use super::elf::{ElfError, Image};
use super::frame::{Frame, NO_CALL, NO_VECTOR, REASON_TRAP};
use super::{Process, Program, Task, stack};
use crate::context::Context;
use crate::errno::Errno;
use crate::host::Machine;
use crate::machine::once::Once;
use crate::memory::{self, brk::Break};
use crate::vfs::{self, ProcessFiles};

/// What the enclave was built and started with.
#[derive(Debug)]
pub struct Boot {
    /// The measured configuration.
    pub manifest: Manifest,
    /// The host's claims.
    pub block: StartBlock,
    /// Whether this is a DEBUG enclave.
    pub debug: bool,
    /// The state components that programs may use.
    pub xfrm: u64,
}

/// Why nothing was started.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// Host arguments may run in DEBUG enclaves only.
    #[error("start mode `test` needs a DEBUG enclave")]
    TestWithoutDebug,
    /// Loading anything may be allowed in DEBUG enclaves only.
    #[error("`dlopen: any` needs a DEBUG enclave")]
    AnyCodeWithoutDebug,
    /// The image is not whole.
    #[error("the image has no configuration for its start mode")]
    NoConfiguration,
    /// Files could not be set up.
    #[error("files could not be set up: {0:?}")]
    Files(Errno),
    /// A file of the program is not in the startup list.
    #[error("`{path}` is not a startup file: {errno:?}")]
    NoFile {
        /// Its path.
        path: alloc::string::String,
        /// Why.
        errno: Errno,
    },
    /// A file of the program cannot be loaded.
    #[error("`{path}` cannot be loaded: {reason}")]
    Load {
        /// Its path.
        path: alloc::string::String,
        /// Why.
        reason: ElfError,
    },
    /// Its stack could not be made.
    #[error("the stack could not be made: {0:?}")]
    Stack(Errno),
}

static BOOT: Once<Boot> = Once::new();

/// What the enclave was built and started with, once it has booted.
pub fn facts() -> Option<&'static Boot> {
    BOOT.get()
}

/// Where a movable program goes if it can.
const PROGRAM_AT: u64 = 0x1000_0000;

/// Makes process 1 and its first thread; `frame` receives its registers.
///
/// # Errors
/// [`StartError`].
pub fn boot(
    machine: &'static dyn Machine,
    manifest: Manifest,
    startup: StartupList,
    block: StartBlock,
    debug: bool,
    xfrm: u64,
    frame: &mut Frame,
) -> Result<Arc<Task>, StartError> {
    if manifest.start_mode == StartMode::Test && !debug {
        return Err(StartError::TestWithoutDebug);
    }
    if manifest.dlopen == Dlopen::Any && !debug {
        return Err(StartError::AnyCodeWithoutDebug);
    }
    let config = match manifest.start_mode {
        StartMode::Session => ProgramConfig {
            argv: alloc::vec![manifest.agent.clone()],
            env: Vec::new(),
            cwd: b"/".to_vec(),
        },
        StartMode::Standalone => manifest
            .standalone
            .clone()
            .ok_or(StartError::NoConfiguration)?,
        StartMode::Test => ProgramConfig {
            argv: block.argv.clone(),
            env: block.env.clone(),
            cwd: block.cwd.clone(),
        },
    };
    let agent = manifest.start_mode == StartMode::Session;
    let path = if agent {
        manifest.agent.clone()
    } else {
        manifest.program.clone()
    };
    let (dlopen, stack_size) = (manifest.dlopen, manifest.stack);
    let _ = BOOT.set(Boot {
        manifest,
        block,
        debug,
        xfrm,
    });
    let facts = facts().ok_or(StartError::NoConfiguration)?;
    let pid = super::FIRST;
    let dlopen = if agent { Dlopen::None } else { dlopen };
    let process = Arc::new(Process::new(pid, 0, agent, ProcessFiles::default(), dlopen));
    let task = Arc::new(Task::new(pid, &process));
    process.tasks.lock().push(Arc::clone(&task));
    super::register(&process);
    let cx = Context {
        machine,
        task: &task,
    };
    vfs::boot::first(&cx, facts, startup).map_err(StartError::Files)?;
    load(&cx, &path, &config, stack_size, frame)?;
    Ok(task)
}

fn shown(path: &[u8]) -> alloc::string::String {
    alloc::string::String::from_utf8_lossy(path).into_owned()
}

/// Loads a program and its interpreter into the caller's process and gives the
/// registers it starts with.
///
/// # Errors
/// [`StartError`].
pub fn load(
    cx: &Context<'_>,
    path: &[u8],
    config: &ProgramConfig,
    stack_size: u64,
    frame: &mut Frame,
) -> Result<(), StartError> {
    let memory = memory::current().ok_or(StartError::NoConfiguration)?;
    let process = cx.process();
    let owner = process.pid;
    let open = |path: &[u8]| {
        vfs::startup::open(cx, path).map_err(|errno| StartError::NoFile {
            path: shown(path),
            errno,
        })
    };
    let broken = |path: &[u8], reason| StartError::Load {
        path: shown(path),
        reason,
    };
    let file = open(path)?;
    let image = Image::read(cx, &file).map_err(|reason| broken(path, reason))?;
    // The agent makes room for programs with fixed addresses.
    let hint = if process.is_agent() { 0 } else { PROGRAM_AT };
    let program = image
        .load(cx, memory, owner, &file, hint)
        .map_err(|reason| broken(path, reason))?;
    let mut entry = program.entry;
    let mut interpreter = 0;
    if let Some(path) = &image.interpreter {
        let path = vfs::boot::loader_path(cx, path).map_err(|errno| StartError::NoFile {
            path: shown(path),
            errno,
        })?;
        let file = open(&path)?;
        let image = Image::read(cx, &file).map_err(|reason| broken(&path, reason))?;
        let loaded = image
            .load(cx, memory, owner, &file, 0)
            .map_err(|reason| broken(&path, reason))?;
        entry = loaded.entry;
        interpreter = loaded.bias;
    }
    if !process.is_agent() {
        *process.brk.lock() = Break {
            start: program.end,
            now: program.end,
        };
    }
    let facts = facts().ok_or(StartError::NoConfiguration)?;
    let content = stack::Content {
        argv: &config.argv,
        env: &config.env,
        path,
        program,
        interpreter,
        hwcap: super::cpuid::answer(1, 0, facts.xfrm)[3],
        signal_frame: crate::signal::frame::room(facts.xfrm),
    };
    let (rsp, auxv) =
        stack::build(cx, memory, owner, stack_size, &content).map_err(StartError::Stack)?;
    *process.program.lock() = Program {
        path: path.to_vec(),
        argv: config.argv.clone(),
        env: config.env.clone(),
        auxv,
    };
    *frame = Frame {
        rip: entry,
        rsp,
        rflags: 0x202,
        reason: REASON_TRAP,
        orig_rax: NO_CALL,
        vector: NO_VECTOR,
        ..Frame::default()
    };
    let mut name = [0; 16];
    let base = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let len = base.len().min(15);
    if let (Some(to), Some(from)) = (name.get_mut(..len), base.get(..len)) {
        to.copy_from_slice(from);
    }
    *cx.task.name.lock() = name;
    Ok(())
}
