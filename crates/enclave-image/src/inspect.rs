// SPDX-License-Identifier: Apache-2.0
//! Reads a finished image back: what is in it, and what it measures to.

use enclave_abi::boot::{BootPage, Extent};
use enclave_abi::codec::DecodeError;
use enclave_abi::image::Header;
use enclave_abi::manifest::Manifest;
use enclave_abi::startup::StartupList;
use sgx::PAGE_SIZE;
use thiserror::Error;

use crate::plan::measure;

/// Why a file is not an image of this project.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InspectError {
    /// One of the forms inside does not decode.
    #[error("The image's {part} is damaged")]
    Decode {
        /// Which form.
        part: &'static str,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// A form lies where the image has no pages.
    #[error("The image has no pages where its {part} should be")]
    Missing {
        /// Which form.
        part: &'static str,
    },
}

/// Everything that an image says about itself. Nothing here is verified against
/// a signature: the measurement is what the file's pages give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The header.
    pub header: Header,
    /// The boot page.
    pub boot: BootPage,
    /// The manifest.
    pub manifest: Manifest,
    /// The startup list.
    pub startup: StartupList,
    /// The measurement of the file's pages.
    pub mrenclave: [u8; 32],
}

impl Inspection {
    /// Reads an image.
    ///
    /// # Errors
    /// Anything that is not a whole image.
    pub fn read(file: &[u8]) -> Result<Self, InspectError> {
        let decode = |part| move |source| InspectError::Decode { part, source };
        let header = Header::decode(file, file.len() as u64).map_err(decode("header"))?;
        let first = header.runs.first().ok_or_else(|| missing("boot page"))?;
        let boot = Extent {
            offset: first.offset,
            len: PAGE_SIZE as u64,
        };
        let boot = BootPage::decode(&bytes(&header, file, boot, "boot page")?)
            .map_err(decode("boot page"))?;
        let manifest = Manifest::decode(&bytes(&header, file, boot.manifest, "manifest")?)
            .map_err(decode("manifest"))?;
        let startup = StartupList::decode(&bytes(&header, file, boot.startup, "startup list")?)
            .map_err(decode("startup list"))?;
        let mrenclave = measure(&header, file).ok_or_else(|| missing("pages"))?;
        Ok(Self {
            header,
            boot,
            manifest,
            startup,
            mrenclave,
        })
    }
}

fn missing(part: &'static str) -> InspectError {
    InspectError::Missing { part }
}

/// The bytes that the image puts at an extent.
fn bytes(
    header: &Header,
    file: &[u8],
    extent: Extent,
    part: &'static str,
) -> Result<Vec<u8>, InspectError> {
    let mut out = Vec::new();
    let end = extent
        .offset
        .checked_add(extent.len)
        .ok_or_else(|| missing(part))?;
    for run in &header.runs {
        let run_end = run.offset + u64::from(run.pages) * PAGE_SIZE as u64;
        let at = extent.offset + out.len() as u64;
        if at >= end || at < run.offset || at >= run_end {
            continue;
        }
        let (skip, len) = (at - run.offset, run_end.min(end) - at);
        let len = usize::try_from(len).map_err(|_| missing(part))?;
        let total = out.len().saturating_add(len);
        match run.source {
            Some(source) => {
                let start = source
                    .checked_add(skip)
                    .and_then(|s| usize::try_from(s).ok());
                let piece = start.and_then(|s| file.get(s..s.checked_add(len)?));
                out.extend_from_slice(piece.ok_or_else(|| missing(part))?);
            }
            // Zero pages take no room in the file, so their number proves nothing.
            None if total <= file.len() => out.resize(total, 0),
            None => return Err(missing(part)),
        }
    }
    if out.len() as u64 == extent.len {
        Ok(out)
    } else {
        Err(missing(part))
    }
}
