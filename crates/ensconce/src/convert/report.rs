// SPDX-License-Identifier: Apache-2.0
//! What was done, for people and machines. Nothing in it is secret.

use std::path::Path;

use serde_json::json;

use super::assemble::{Layers, Parts};
use crate::console::Console;
use crate::exit::{Class, Classify as _, Failure};
use oci::digest::Digest;

/// Digests on both sides.
pub(crate) struct Digests {
    pub(crate) native: Digest,
    /// Manifest and image ID of the result; absent in a dry run.
    pub(crate) result: Option<(Digest, Digest)>,
}

/// Writes the JSON report.
pub(crate) fn write(
    path: &Path,
    parts: &Parts<'_>,
    layers: Layers,
    digests: &Digests,
) -> Result<(), Failure> {
    let request = parts.request;
    let stats = &parts.sealed.fspf.stats;
    let regions: Vec<_> = parts
        .plan
        .regions
        .iter()
        .map(|(prefix, class)| {
            json!({"path": oci::path::printable(prefix), "protection": class.to_string()})
        })
        .collect();
    let startup: Vec<_> = parts
        .startup
        .list
        .files
        .iter()
        .map(|file| {
            json!({
                "path": oci::path::printable(&file.path),
                "role": format!("{:?}", file.role).to_lowercase(),
                "size": file.size,
                "sites": file.sites.len(),
            })
        })
        .collect();
    let report = json!({
        "version": 1,
        "from": {"image": request.from.to_string(), "digest": digests.native.to_string()},
        "to": {
            "image": request.to.to_string(),
            "manifest": digests.result.map(|(manifest, _)| manifest.to_string()),
            "image_id": digests.result.map(|(_, id)| id.to_string()),
        },
        "session": request.session.as_str(),
        "service": request.service.as_str(),
        "binary": parts.binary.path.to_string(),
        "kind": parts.binary.service.name(),
        "libc": format!("{:?}", parts.startup.libc).to_lowercase(),
        "mrenclave": hex::encode(parts.enclave.image.mrenclave),
        "mrsigner": hex::encode(parts.enclave.mrsigner),
        "debug": parts.enclave.is_debug,
        "heap": parts.enclave.heap.0,
        "stack": parts.enclave.stack.0,
        "cas_key": parts.cas.pin.map(hex::encode),
        "insecure": insecure(parts),
        "fspf": {
            "tag": parts.sealed.fspf.tag.to_string(),
            "entries": stats.entries,
            "authenticated_files": stats.authenticated_files,
            "encrypted_files": stats.encrypted_files,
        },
        "layers": {"reused": layers.reused, "rewritten": layers.rewritten},
        "regions": regions,
        "startup": startup,
        "dry_run": request.options.dry_run,
    });
    let doing = format!("Cannot write the report to '{}'", path.display());
    let text = serde_json::to_string_pretty(&report).class(Class::Internal, &doing)?;
    std::fs::write(path, text + "\n").class(Class::Files, &doing)
}

/// Conveniences that weaken protection, by the option that asked for them.
fn insecure(parts: &Parts<'_>) -> Vec<&'static str> {
    let options = &parts.request.options;
    let mut list = Vec::new();
    if parts.enclave.is_debug {
        list.push("unsigned");
    }
    if options.allow_debug_mode {
        list.push("allow-debug-mode");
    }
    if options.allow_emulated_platform.is_some() {
        list.push("allow-emulated-platform");
    }
    if options.cas_debug {
        list.push("cas-debug");
    }
    if options.dlopen == 2 {
        list.push("dlopen=2");
    }
    list
}

/// The few lines that everybody should see.
pub(crate) fn summary(parts: &Parts<'_>, console: Console) {
    let enclave = parts.enclave;
    console.notice(format!(
        "{} ({}), heap {}, stack {}, MRENCLAVE {}",
        parts.binary.path,
        parts.binary.service.name(),
        enclave.heap,
        enclave.stack,
        hex::encode(enclave.image.mrenclave)
    ));
    let stats = &parts.sealed.fspf.stats;
    console.notice(format!(
        "{} files encrypted, {} authenticated",
        stats.encrypted_files, stats.authenticated_files
    ));
    if enclave.is_debug && !parts.request.options.allow_debug_mode {
        console.warning(
            "the enclave is unsigned, hence in debug mode, and the session refuses such enclaves: \
             sign it with --scone-signer, or for development add --allow-debug-mode",
        );
    }
}
