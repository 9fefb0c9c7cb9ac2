// SPDX-License-Identifier: Apache-2.0
//! From a program of this machine to image and signature.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use clap::Args;
use enclave_abi::manifest::{Dlopen, Manifest, ProgramConfig, Region, RegionClass, StartMode};
use enclave_image::closure::Closure;
use enclave_image::plan::{Image, plan};
use enclave_image::root::Root;
use enclave_image::sign::{Identity, Signer};
use enclave_image::startup;

use crate::args::Size;
use crate::exit::{Class, Classify as _, Failure};

/// Sizes of an enclave. They are measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shape {
    /// Most memory of the program
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    pub(crate) heap: Size,
    /// Stack of the program's first thread
    #[arg(long, value_name = "SIZE", default_value = "8M")]
    pub(crate) stack: Size,
    /// Most threads at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    pub(crate) threads: u32,
}

/// What the enclave is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// Arguments, environment and directory come from the host; DEBUG only.
    Test,
    /// They are measured.
    Standalone {
        /// What the program is given.
        config: ProgramConfig,
        /// Paths that are served from the host as they are.
        host_paths: Vec<Vec<u8>>,
        /// Whether code may be loaded from them; DEBUG only.
        loads_any: bool,
    },
}

/// An image with its signature.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) image: Image,
    pub(crate) signature: Vec<u8>,
    pub(crate) closure: Closure,
}

/// Plans, measures and signs an enclave for the program at `program` in `root`.
pub(crate) fn assemble(
    kernel: &[u8],
    root: &dyn Root,
    program: &Path,
    shape: &Shape,
    purpose: Purpose,
    signer: &Signer,
    is_debug: bool,
) -> Result<Built, Failure> {
    let refused = || format!("Cannot run '{}' in an enclave", program.display());
    let closure =
        Closure::find(root, program.as_os_str().as_bytes()).class(Class::Binary, refused())?;
    let list = startup::list(&closure).class(Class::Binary, refused())?;
    let manifest = manifest(shape, closure.program().to_vec(), purpose);
    let image = plan(kernel, &manifest, &list, is_debug).class(
        Class::Usage,
        "The enclave cannot be built with these options",
    )?;
    let identity = Identity::new(0, 0).class(Class::Signing, "Product identity")?;
    let signature = signer
        .sign(image.mrenclave, is_debug, &identity)
        .class(Class::Signing, "The enclave cannot be signed")?;
    Ok(Built {
        image,
        signature: signature.to_bytes().to_vec(),
        closure,
    })
}

fn manifest(shape: &Shape, program: Vec<u8>, purpose: Purpose) -> Manifest {
    let region = |path: &[u8], class| Region {
        path: path.to_vec(),
        class,
    };
    let mut regions = Vec::new();
    for path in ["/dev", "/proc", "/sys"] {
        regions.push(region(path.as_bytes(), RegionClass::Synthetic));
    }
    regions.push(region(b"/dev/shm", RegionClass::Ephemeral));
    let (start_mode, dlopen, standalone) = match purpose {
        Purpose::Test => {
            regions.push(region(b"/", RegionClass::HostPath));
            (StartMode::Test, Dlopen::Any, None)
        }
        Purpose::Standalone {
            config,
            host_paths,
            loads_any,
        } => {
            for path in ["/run", "/tmp", "/var/tmp"] {
                if !host_paths.iter().any(|host| host == path.as_bytes()) {
                    regions.push(region(path.as_bytes(), RegionClass::Ephemeral));
                }
            }
            for path in &host_paths {
                regions.retain(|region| &region.path != path);
                regions.push(region(path, RegionClass::HostPath));
            }
            let dlopen = if loads_any { Dlopen::Any } else { Dlopen::None };
            (StartMode::Standalone, dlopen, Some(config))
        }
    };
    regions.sort_by(|a, b| a.path.cmp(&b.path));
    Manifest {
        start_mode,
        heap: shape.heap.0,
        stack: shape.stack.0,
        threads: shape.threads,
        dlopen,
        fork: false,
        program,
        agent: Vec::new(),
        regions,
        cas_pin: None,
        standalone,
    }
}
