// SPDX-License-Identifier: Apache-2.0
//! The enclave image: manifest, measurement, signature.

use std::path::Path;

use enclave_abi::manifest::{Dlopen, Manifest, Region, RegionClass, StartMode};
use enclave_image::plan::{Image, PlanError, plan};
use enclave_image::sign::{Identity, Signer};
use shieldfs::region::{Class as Protection, Regions};

use super::binary::Binary;
use super::startup::{Startup, agent_path};
use crate::args::{Convert, Size};
use crate::exit::{Class, Classify as _, Failure};

/// Threads that a program may have at once.
const THREADS: u32 = 64;

/// A measured and signed enclave.
#[derive(Debug)]
pub(crate) struct Enclave {
    pub(crate) image: Image,
    pub(crate) signature: Vec<u8>,
    pub(crate) mrsigner: [u8; 32],
    pub(crate) is_debug: bool,
    pub(crate) heap: Size,
    pub(crate) stack: Size,
}

/// Reads the signing key before anything else is done.
pub(crate) fn signer(path: Option<&Path>) -> Result<Signer, Failure> {
    let Some(path) = path else {
        return Ok(Signer::debug());
    };
    let doing = format!("--scone-signer={} cannot be used", path.display());
    let pem = std::fs::read(path)
        .class(Class::Signing, &doing)
        .map_err(|failure| {
            failure.with_help("make a key with 'openssl genrsa -3 -out KEY 3072', and keep it")
        })?;
    let signer = Signer::from_pem(&zeroize::Zeroizing::new(pem)).class(Class::Signing, &doing)?;
    if signer.is_debug_key() {
        return Err(Failure::new(
            Class::Signing,
            format!("{doing}: it is the well-known debug key, which everybody has"),
        ));
    }
    Ok(signer)
}

/// Plans, measures and signs.
pub(crate) fn build(
    options: &Convert,
    kernel: &[u8],
    binary: &Binary,
    startup: &Startup,
    regions: &Regions,
    cas_pin: Option<[u8; 32]>,
    signer: &Signer,
) -> Result<Enclave, Failure> {
    let is_debug = options.scone_signer.is_none();
    let heap = options
        .heap
        .unwrap_or_else(|| binary.service.default_heap());
    let stack = options
        .stack
        .unwrap_or_else(|| binary.service.default_stack());
    let manifest = Manifest {
        start_mode: StartMode::Session,
        heap: heap.0,
        stack: stack.0,
        threads: THREADS,
        dlopen: match options.dlopen {
            0 => Dlopen::None,
            1 => Dlopen::Protected,
            _ => Dlopen::Any,
        },
        fork: false,
        program: startup.program.as_bytes().to_vec(),
        agent: agent_path().into_bytes(),
        regions: before_fspf(regions),
        cas_pin,
        standalone: None,
    };
    let image = match plan(kernel, &manifest, &startup.list, is_debug) {
        Err(error @ (PlanError::OutOfBounds { .. } | PlanError::NeedsDebug { .. })) => {
            let doing = "The enclave cannot be built with these options";
            return Err(error).class(Class::Usage, doing);
        }
        other => other.class(Class::Internal, "The enclave cannot be built")?,
    };
    let identity = Identity::new(0, 0).class(Class::Signing, "Product identity")?;
    let signature = signer
        .sign(image.mrenclave, is_debug, &identity)
        .class(Class::Signing, "The enclave cannot be signed")?;
    Ok(Enclave {
        mrsigner: signature.mrsigner(),
        signature: signature.to_bytes().to_vec(),
        image,
        is_debug,
        heap,
        stack,
    })
}

/// Regions that the kernel serves without an FSPF.
fn before_fspf(regions: &Regions) -> Vec<Region> {
    let own = regions.iter().filter_map(|(path, class)| {
        let class = match class {
            Protection::Ephemeral => RegionClass::Ephemeral,
            Protection::HostPath => RegionClass::HostPath,
            Protection::Synthetic => RegionClass::Synthetic,
            _ => return None,
        };
        Some(Region {
            path: path.to_vec(),
            class,
        })
    });
    own.collect()
}
