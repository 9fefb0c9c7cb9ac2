// SPDX-License-Identifier: Apache-2.0
//! `ensconce convert`: one file per stage.
//!
//! ```text
//! request ─▶ image ─▶ binary, command ─▶ regions ─▶ startup ─▶ seal ─▶ enclave ─▶ session
//!                                                                                    │
//!                              name ◀─ commit ◀─ upload ◀─ stage ◀─ assemble ◀───────┘
//! ```

mod anchor;
mod assemble;
mod binary;
mod cache;
mod command;
mod enclave;
mod facts;
mod own;
mod regions;
mod report;
mod request;
mod seal;
mod session;
mod startup;
mod upload;

use std::sync::Arc;

use oci::image::Image;
use oci::limits::Limits;
use oci::output::OutputError;
use oci::root::RootView;

use crate::args::Convert;
use crate::console::Console;
use crate::exit::{Class, Classify as _, Failure};
use crate::libexec::Libexec;
use assemble::Parts;
use cache::Cache;
use cache::layer::Layers;
use facts::Facts;
use regions::Plan;
use report::Digests;
use request::Request;

/// Converts an image as the options say and prints the session's name.
pub(crate) fn convert(options: Convert) -> Result<(), Failure> {
    let console = Console::new(options.debug, options.verbose, options.no_color);
    let request = Request::check(options, console)?;
    let options = &request.options;
    let anchor = anchor::find(options)?;
    let signer = enclave::signer(options.scone_signer.as_deref())?;
    let libexec = Libexec::find()?;
    let (kernel, agent, launcher) = (
        libexec.read("kernel.elf")?,
        libexec.read("agent")?,
        libexec.read("launch")?,
    );

    let temp = std::env::temp_dir();
    let limits = Limits::default();
    console.step(format!("open {}", request.from));
    let native = Image::open(&request.from, &limits, &temp).class(
        Class::NativeImage,
        format!("Cannot open '{}'", request.from),
    )?;
    console.step(format!(
        "read {} layers of {}",
        native.layers().len(),
        native.digest()
    ));
    // A dry run leaves nothing behind, not even a cache.
    let cache = match options.dry_run {
        true => None,
        false => Cache::open(console).map(Arc::new),
    };
    let known_layers = Layers::new(cache, &temp);
    let view = RootView::open_with(&native, &limits, &temp, &known_layers).class(
        Class::NativeImage,
        format!("Cannot read '{}'", request.from),
    )?;
    for (number, layer) in view.layers().iter().enumerate() {
        if layer.recalled_entries().is_some() {
            console.step(format!(
                "layer {number} is known from an earlier conversion"
            ));
        }
    }
    let config = native.config();
    let binary = binary::find(&view, &options.binary, command::search_path(config))?;
    let launch = command::merge(&request, config, &view, &binary)?;
    let mut plan = Plan::new(&request, &view, console)?;
    console.step(format!("find what {} needs to start", binary.path));
    let mut facts = Facts::default();
    known_layers.teach(&view, &mut facts);
    let agent_known = known_layers
        .code(&agent)
        .class(Class::Internal, "The agent is not usable; run 'make build'")?;
    let startup = startup::plan(&view, &binary, &agent_known, &mut plan, &mut facts, console)?;
    let cas = upload::find(&request, console)?;

    // What was read up to here is what a start takes; from here on, all is.
    let needed = view.asked_for();
    console.step("protect the files");
    let adds_generic_name = !options.disable_binary_symlink_detection;
    let sealed = seal::seal(
        &view,
        &plan,
        &binary,
        &startup,
        &mut facts,
        adds_generic_name,
        &temp,
    )?;
    console.step("measure and sign the enclave");
    let enclave = enclave::build(
        options,
        &kernel,
        &binary,
        &startup,
        &plan.regions,
        cas.pin,
        &signer,
    )?;
    let document = session::render(
        &request,
        &launch,
        &enclave,
        &sealed,
        anchor.as_deref(),
        console,
    )?;
    console.text("session (secret values hidden)", &document.shown());
    let selection = view.select(&plan.encrypted);
    let parts = Parts {
        request: &request,
        view: &view,
        config,
        plan: &plan,
        selection: &selection,
        binary: &binary,
        startup: &startup,
        sealed: &sealed,
        enclave: &enclave,
        agent: &agent,
        launcher: &launcher,
        cas: &cas,
        cache: known_layers.cache(),
    };
    parts.check_links()?;
    let (image, layers) = parts.assemble(console, &temp)?;
    let mut digests = Digests {
        native: native.digest(),
        result: None,
    };
    if options.dry_run {
        console.notice("dry run: nothing is written or uploaded");
    } else {
        console.step(format!("write {}", request.to));
        let staged = image.stage(&request.to).map_err(|error| {
            let class = match error {
                // A layer that was known and not read again until now.
                OutputError::Changed { .. } => Class::NativeImage,
                _ => Class::Output,
            };
            Failure::of(class, error, format!("Cannot write '{}'", request.to))
        })?;
        digests.result = Some((staged.manifest_digest(), staged.image_id()));
        let prepared = session::file(&request)
            .map(|path| session::prepare(&document, path))
            .transpose()?;
        cas.upload(&document, console)?;
        // The name moves last: a failure leaves the target as it was.
        staged
            .commit()
            .class(Class::Output, format!("Cannot write '{}'", request.to))?;
        if let Some(prepared) = prepared {
            prepared.publish()?;
        }
        known_layers.remember(&view, &selection, &facts, &needed);
    }
    if let Some(path) = &options.report {
        report::write(path, &parts, layers, &digests)?;
    }
    report::summary(&parts, console);
    println!("{}", request.session.as_str());
    Ok(())
}
