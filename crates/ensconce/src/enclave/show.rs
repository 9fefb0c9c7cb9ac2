// SPDX-License-Identifier: Apache-2.0
//! `ensconce enclave show`: what is in an image.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use enclave_abi::image::FILE_NAME;
use enclave_image::inspect::Inspection;
use enclave_image::sign::Signer;
use serde_json::{Value, json};
use sgx::attributes::Flags;
use sgx::sigstruct::Sigstruct;

use crate::exit::{Class, Classify as _, Failure};

/// Show an enclave image: measurement, signer, addresses, files
///
/// Reads enclave.img and the signature beside it, measures the pages anew and
/// checks the signature against them.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Form of the output
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Text)]
    report: Form,
    /// enclave.img, or a directory that holds one
    image: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Reads and prints. An image whose signature does not fit is shown, with exit code 6.
pub(super) fn show(options: &Show) -> Result<ExitCode, Failure> {
    let path = if options.image.is_dir() {
        options.image.join(FILE_NAME)
    } else {
        options.image.clone()
    };
    let doing = || format!("Cannot show '{}'", path.display());
    let bytes = std::fs::read(&path).class(Class::Files, doing())?;
    let image = Inspection::read(&bytes).class(Class::Files, doing())?;
    let signature = signature(&path, &image)?;
    let is_good = signature.as_ref().is_some_and(|s| s.problem.is_none());
    let text = match options.report {
        Form::Text => text(&image, signature.as_ref()),
        Form::Json => format!("{:#}\n", report(&image, signature.as_ref())),
    };
    print!("{text}");
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Class::Signing as u8)
    })
}

/// The signature beside an image, and why it does not fit, if it does not.
struct Signature {
    sigstruct: Sigstruct,
    problem: Option<String>,
}

fn signature(image: &Path, read: &Inspection) -> Result<Option<Signature>, Failure> {
    let mut path = image.to_owned().into_os_string();
    path.push(".sig");
    let path = PathBuf::from(path);
    if !path.exists() {
        return Ok(None);
    }
    let doing = || format!("Cannot use '{}'", path.display());
    let bytes = std::fs::read(&path).class(Class::Files, doing())?;
    let bytes: [u8; Sigstruct::SIZE] = bytes.try_into().map_err(|bytes: Vec<u8>| {
        Failure::new(
            Class::Signing,
            format!(
                "{}: it has {} bytes instead of {}",
                doing(),
                bytes.len(),
                Sigstruct::SIZE
            ),
        )
    })?;
    let sigstruct = Sigstruct::from_bytes(&bytes).class(Class::Signing, doing())?;
    let mask = &sigstruct.body.attribute_mask;
    let problem = if let Err(error) = sigstruct.verify() {
        Some(error.to_string())
    } else if sigstruct.body.mrenclave != read.mrenclave {
        Some("it is for another measurement".to_owned())
    } else if read.header.attributes.masked(mask) != sigstruct.body.attributes.masked(mask) {
        Some("it does not allow the image's attributes".to_owned())
    } else {
        None
    };
    Ok(Some(Signature { sigstruct, problem }))
}

fn report(image: &Inspection, signature: Option<&Signature>) -> Value {
    let layout = &image.boot.layout;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let files: Vec<Value> = image
        .startup
        .files
        .iter()
        .map(|file| {
            json!({
                "path": text(&file.path),
                "role": format!("{:?}", file.role).to_lowercase(),
                "size": file.size,
                "syscall_sites": file.sites.len(),
            })
        })
        .collect();
    let regions: Vec<Value> = image
        .manifest
        .regions
        .iter()
        .map(|region| {
            json!({
                "path": text(&region.path),
                "class": format!("{:?}", region.class).to_lowercase(),
            })
        })
        .collect();
    json!({
        "mrenclave": hex::encode(image.mrenclave),
        "signature": signature.map(|signature| json!({
            "mrsigner": hex::encode(signature.sigstruct.mrsigner()),
            "isv_prod_id": signature.sigstruct.body.isv_prod_id,
            "isv_svn": signature.sigstruct.body.isv_svn,
            "is_known_debug_key": is_debug_key(&signature.sigstruct),
            "problem": signature.problem,
        })),
        "attributes": {
            "flags": format!("{:#x}", image.header.attributes.flags.bits()),
            "xfrm": format!("{:#x}", image.header.attributes.xfrm),
            "debug": image.header.attributes.flags.contains(Flags::DEBUG),
        },
        "layout": {
            "size": layout.elrange,
            "kernel": layout.kernel,
            "threads": layout.threads,
            "kernel_heap": layout.kernel_heap,
            "gate": image.header.gate,
            "pages": pages(image),
        },
        "manifest": {
            "start_mode": format!("{:?}", image.manifest.start_mode).to_lowercase(),
            "program": text(&image.manifest.program),
            "heap": image.manifest.heap,
            "stack": image.manifest.stack,
            "threads": image.manifest.threads,
            "dlopen": format!("{:?}", image.manifest.dlopen).to_lowercase(),
            "cas_pin": image.manifest.cas_pin.map(hex::encode),
            "regions": regions,
        },
        "startup_files": files,
    })
}

fn pages(image: &Inspection) -> u64 {
    image
        .header
        .runs
        .iter()
        .map(|run| u64::from(run.pages))
        .sum()
}

fn is_debug_key(sigstruct: &Sigstruct) -> bool {
    sigstruct.mrsigner() == Signer::debug().mrsigner()
}

fn text(image: &Inspection, signature: Option<&Signature>) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<12} {value}");
    };
    let layout = &image.boot.layout;
    let manifest = &image.manifest;
    line("MRENCLAVE", hex::encode(image.mrenclave));
    match signature {
        None => line("signature", "none beside the image".to_owned()),
        Some(signature) => {
            let sigstruct = &signature.sigstruct;
            let debug = if is_debug_key(sigstruct) {
                " (the well-known debug key: no protection)"
            } else {
                ""
            };
            line(
                "MRSIGNER",
                format!("{}{debug}", hex::encode(sigstruct.mrsigner())),
            );
            let body = &sigstruct.body;
            line(
                "product",
                format!("{} version {}", body.isv_prod_id, body.isv_svn),
            );
            if let Some(problem) = &signature.problem {
                line("signature", format!("REFUSED: {problem}"));
            }
        }
    }
    let attributes = &image.header.attributes;
    let debug = if attributes.flags.contains(Flags::DEBUG) {
        "DEBUG: the host can read its memory"
    } else {
        "production"
    };
    line(
        "attributes",
        format!(
            "{:#x}, XFRM up to {:#x}, {debug}",
            attributes.flags.bits(),
            attributes.xfrm
        ),
    );
    line(
        "layout",
        format!(
            "{:#x} bytes, kernel at {:#x}, threads at {:#x}, {} measured pages",
            layout.elrange,
            layout.kernel,
            layout.threads,
            pages(image)
        ),
    );
    line(
        "manifest",
        format!(
            "mode {:?}, heap {}, stack {}, {} threads, loading {:?}",
            manifest.start_mode, manifest.heap, manifest.stack, manifest.threads, manifest.dlopen
        ),
    );
    for region in &manifest.regions {
        line(
            "region",
            format!("{:?} {}", region.class, region.path.escape_ascii()),
        );
    }
    for file in &image.startup.files {
        line(
            "file",
            format!(
                "{:?} {} ({} bytes, {} syscall sites)",
                file.role,
                file.path.escape_ascii(),
                file.size,
                file.sites.len()
            ),
        );
    }
    out
}
