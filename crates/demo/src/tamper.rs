// SPDX-License-Identifier: Apache-2.0
//! What somebody with the registry in their hands would do.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use oci::compression::Level;
use oci::config::ResultConfig;
use oci::image::Image;
use oci::layer::write::{LayerWriter, NewEntry};
use oci::limits::Limits;
use oci::output::NewImage;
use oci::path::RootPath;
use oci::reference::Reference;
use oci::root::{NodeKind, RootView};

/// Flips one bit in the middle of `path` of a converted image, in a layer above
/// the others; everything else stays as it is. The new image gets `tag`.
///
/// # Errors
/// The image cannot be read, or has no such file.
pub fn flip_one_bit(converted: &str, path: &str, tag: &str, work: &Path) -> Result<String> {
    rewrite(converted, path, tag, work, |bytes| {
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
    })
}

/// Changes one file of a converted image.
///
/// # Errors
/// The image cannot be read, or has no such file.
pub fn rewrite(
    converted: &str,
    path: &str,
    tag: &str,
    work: &Path,
    change: impl FnOnce(&mut Vec<u8>),
) -> Result<String> {
    let limits = Limits::default();
    let reference: Reference = converted.parse().context("while parsing a reference")?;
    let image = Image::open(&reference, &limits, work).context("while opening the image")?;
    let view = RootView::open(&image, &limits, work).context("while reading the image")?;
    let (path, node) = view
        .resolve(&RootPath::parse(path).context("while parsing a path")?)
        .with_context(|| format!("while looking for {path}"))?;
    let NodeKind::File(data) = &node.kind else {
        bail!("{path} is not a file");
    };
    let mut bytes = Vec::new();
    view.content(data)?.reader().read_to_end(&mut bytes)?;
    change(&mut bytes);

    let mut layer = LayerWriter::new(work, Level::Gzip(1)).context("while writing a layer")?;
    layer
        .append(
            &path,
            &NewEntry::File {
                size: bytes.len() as u64,
            },
            &node.metadata,
            bytes.as_slice(),
        )
        .context("while writing a layer")?;
    let mut layers: Vec<_> = view
        .layers()
        .iter()
        .map(|layer| layer.blob().clone())
        .collect();
    layers.push(layer.finish().context("while writing a layer")?);

    let native = image.config();
    let config = ResultConfig {
        env: native.env.clone(),
        entrypoint: native.entrypoint.clone(),
        cmd: native.cmd.clone(),
        working_dir: native.working_dir.clone(),
        ..native.carry_over()
    };
    let Reference::OciLayout { dir, .. } = reference else {
        bail!("{converted} is not an OCI layout");
    };
    let changed = format!("oci:{}:{tag}", dir.display());
    NewImage { config, layers }
        .stage(&changed.parse()?)
        .and_then(oci::output::Staged::commit)
        .context("while writing the changed image")?;
    Ok(changed)
}

/// The first bytes of `path` as the image stores it.
///
/// # Errors
/// The image cannot be read, or has no such file.
pub fn first_bytes(image: &str, path: &str, count: usize, work: &Path) -> Result<Vec<u8>> {
    let limits = Limits::default();
    let reference: Reference = image.parse().context("while parsing a reference")?;
    let image = Image::open(&reference, &limits, work).context("while opening the image")?;
    let view = RootView::open(&image, &limits, work).context("while reading the image")?;
    let (path, node) = view
        .resolve(&RootPath::parse(path).context("while parsing a path")?)
        .with_context(|| format!("while looking for {path}"))?;
    let NodeKind::File(data) = &node.kind else {
        bail!("{path} is not a file");
    };
    let mut bytes = vec![0; count];
    let read = view.content(data)?.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}
