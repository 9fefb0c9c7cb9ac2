// SPDX-License-Identifier: Apache-2.0
//! From arguments to a running enclave.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use enclave_abi::image::{DIRECTORY, FILE_NAME};
use enclave_abi::manifest::StartMode;
use rustix::fs::OFlags;
use sgx::attributes::{Flags, XFRM_ALLOWED, XFRM_REQUIRED};
use sgx_emu::keys::{KeySource, LasSocket, ThrowAway};
use sgx_emu::processor::Cpuid;

use crate::backend::{self, Building, Identity, device, emulated};
use crate::calls::Host;
use crate::image::{Image, read_sigstruct};
use crate::log;
use crate::options::{Mode, Options};
use crate::private;
use crate::root::Root;
use crate::start;
use crate::threads::Running;

/// Runs the enclave that the options name. The process ends with it.
///
/// # Errors
/// Whatever keeps the enclave from starting.
pub fn launch(mut options: Options) -> Result<Infallible> {
    let error_output = private::keep(io::stderr()).context("while keeping standard error")?;
    log::init(File::from(error_output), options.log);
    options.root = options
        .root
        .into_private()
        .context("while keeping the root directory")?;
    let (image_file, mut signature_file) = open_files(&options)?;
    let image = Image::open(&image_file)?;
    drop(image_file);
    if options.wants_hash {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", hex::encode(image.mrenclave())).context("while printing the hash")?;
        out.flush().context("while printing the hash")?;
        std::process::exit(0);
    }
    let manifest = image.manifest();
    start::agrees_with_measured(&options.settings, manifest)?;
    let identity = Identity {
        config_id: start::configid(&options, manifest)?,
        xfrm: usable_xfrm(&image)?,
    };
    let sigstruct = read_sigstruct(&mut signature_file)?;
    drop(signature_file);
    let is_emulated = match options.mode {
        Mode::Hardware => false,
        Mode::Emulated => true,
        Mode::Auto => device::find().is_none(),
    };
    if options.wants_version {
        let debug = image.header().attributes.flags.contains(Flags::DEBUG);
        let hash = image.mrenclave();
        let text = start::version_text(&options, manifest, &hash, debug, is_emulated);
        io::stderr()
            .write_all(text.as_bytes())
            .context("while printing the configuration")?;
    }
    let building = if is_emulated {
        emulate(&options, &image, &identity)?
    } else {
        if options.is_strict {
            bail!("--strict is about the emulated processor, but SCONE_MODE asks for hardware");
        }
        device::create(&image, &identity)?
    };
    let backend = backend::load(building, &image, &sigstruct)?;
    let layout = image.boot().layout;
    let block = start::start_block(&options)?.encode();
    drop(image);
    let host = Host {
        root: Arc::new(options.root),
        pending: Arc::default(),
        #[cfg(feature = "hostile")]
        plan: crate::hostile::Plan::of_process()?,
    };
    Running::new(backend, layout, host)?.run(&block)
}

/// The image and its signature: the files given, else those of the container.
fn open_files(options: &Options) -> Result<(File, File)> {
    let image = options
        .image
        .clone()
        .unwrap_or_else(|| Path::new(DIRECTORY).join(FILE_NAME));
    let signature = options.sig.clone().unwrap_or_else(|| {
        let mut path = image.clone().into_os_string();
        path.push(".sig");
        PathBuf::from(path)
    });
    let open = |path: &Path, is_given: bool| -> Result<File> {
        let file = if is_given {
            File::open(path).map_err(anyhow::Error::from)
        } else {
            open_below(&options.root, path)
        };
        file.with_context(|| format!("while opening {}", path.display()))
    };
    let is_given = options.image.is_some();
    Ok((
        open(&image, is_given)?,
        open(&signature, is_given || options.sig.is_some())?,
    ))
}

fn open_below(root: &Root, path: &Path) -> Result<File> {
    let opened = root.open(
        path.as_os_str().as_bytes(),
        OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    );
    Ok(File::from(opened.map_err(io::Error::from_raw_os_error)?))
}

/// The state components that image and machine share.
fn usable_xfrm(image: &Image) -> Result<u64> {
    let wanted = image.header().attributes.xfrm;
    let xfrm = wanted & sgx_emu::platform::xcr0() & XFRM_ALLOWED;
    if xfrm & XFRM_REQUIRED != XFRM_REQUIRED {
        bail!("this machine lacks AVX, which every enclave of this project needs");
    }
    // The enclave answers CPUID from a measured table: a feature that is promised
    // and absent would end programs in the middle of their work.
    let missing = crate::probe::missing_features(xfrm);
    if !missing.is_empty() {
        bail!(
            "this processor lacks what enclaves are promised ({}); run it on Ice Lake-SP or later, \
             or ask `ensconce doctor`",
            missing.join(", ")
        );
    }
    Ok(xfrm)
}

fn emulate(options: &Options, image: &Image, identity: &Identity) -> Result<Box<dyn Building>> {
    let cpuid = cpuid(options)?;
    log::notice(format_args!(
        "emulated platform: nothing here is protected against root on this machine{}",
        match cpuid {
            Cpuid::Fault => "",
            Cpuid::Native =>
                "; CPUID cannot be intercepted here, so programs see this machine's CPU",
        }
    ));
    let emulation = emulated::Options {
        mode: if options.is_strict {
            sgx_emu::Mode::Strict
        } else {
            sgx_emu::Mode::Fast
        },
        cpuid,
        #[cfg(feature = "hostile")]
        attacker: attacker()?,
    };
    let keys = keys(options, image)?;
    Ok(emulated::create(image, identity, emulation, keys)?)
}

#[cfg(feature = "hostile")]
fn attacker() -> Result<Option<Arc<dyn sgx_emu::hostile::Attacker>>> {
    use sgx_emu::hostile::Attacker;
    let plan = crate::hostile::Plan::of_process()?;
    if plan.is_some() {
        log::notice(format_args!("this launcher attacks its enclave"));
    }
    Ok(plan
        .filter(|plan| plan.attacks_instructions())
        .map(|plan| plan as Arc<dyn Attacker>))
}

/// Whether CPUID can be made to fault; strict mode insists where the CPU can.
fn cpuid(options: &Options) -> Result<Cpuid> {
    let support = sgx_emu::platform::probe();
    if let Err(error) = support.syscall_dispatch {
        bail!(
            "the kernel refuses Syscall User Dispatch (prctl 59: {error}), without which no \
             enclave can be emulated; Linux 5.11 or later is needed, and a seccomp profile may \
             forbid it"
        );
    }
    match support.cpuid_faulting {
        Ok(()) => Ok(Cpuid::Fault),
        // The CPU or hypervisor lacks it: nobody can help that.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(Cpuid::Native),
        Err(_) if !options.is_strict => Ok(Cpuid::Native),
        Err(error) => bail!(
            "--strict needs CPUID faulting, but the kernel refuses it (arch_prctl ARCH_CPUID: \
             {error}); a seccomp profile may forbid it"
        ),
    }
}

/// The emulated platform behind the local attestation service, else a
/// processor for this run alone.
fn keys(options: &Options, image: &Image) -> Result<Arc<dyn KeySource>> {
    let address = start::las_address(&options.settings);
    let Some(path) = address.strip_prefix("unix:") else {
        log::notice(format_args!(
            "no emulated platform behind a unix socket: this run can neither attest nor unseal; \
             mount the platform's socket, see `ensconce doctor --sgx-device`"
        ));
        return Ok(Arc::new(ThrowAway::new()?));
    };
    match LasSocket::connect(Path::new(path)).and_then(keep_socket) {
        Ok(socket) => Ok(Arc::new(socket)),
        Err(error) if image.manifest().start_mode == StartMode::Test => {
            log::notice(format_args!(
                "{path}: {error}; this run can neither attest nor unseal"
            ));
            Ok(Arc::new(ThrowAway::new()?))
        }
        Err(error) => Err(anyhow::Error::from(error).context(format!(
            "while asking the local attestation service at {path} for the emulated platform"
        ))),
    }
}

fn keep_socket(socket: LasSocket) -> Result<LasSocket, sgx_emu::keys::KeySourceError> {
    let kept = private::keep(socket.descriptor()?)?;
    debug_assert!(kept.as_raw_fd() >= private::first());
    Ok(socket.with_descriptor(kept))
}
