// SPDX-License-Identifier: Apache-2.0
//! The boot page: the measured page at K from which the kernel finds the rest.
//! The kernel image follows at K + 4096.

use alloc::vec::Vec;

use sgx::PAGE_SIZE;

use crate::codec::{DecodeError, Reader, Writer};
use crate::layout::Layout;

const MAGIC: &[u8; 8] = b"ENSCBOOT";
/// Version of the boot page.
pub const VERSION: u32 = 1;

/// A range of measured bytes inside ELRANGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte's address.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// What the boot page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootPage {
    /// The image's addresses.
    pub layout: Layout,
    /// The kernel image, without the boot page.
    pub kernel_image: Extent,
    /// The encoded [`crate::manifest::Manifest`].
    pub manifest: Extent,
    /// The encoded [`crate::startup::StartupList`].
    pub startup: Extent,
}

impl BootPage {
    /// Encodes the page.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        let layout = &self.layout;
        w.raw(MAGIC).u32(VERSION).u32(layout.thread_count);
        for value in [
            layout.elrange,
            layout.kernel,
            layout.kernel_len,
            layout.threads,
            layout.kernel_heap,
        ] {
            w.u64(value);
        }
        for extent in [self.kernel_image, self.manifest, self.startup] {
            w.u64(extent.offset).u64(extent.len);
        }
        let mut page = w.finish();
        page.resize(PAGE_SIZE, 0);
        page
    }

    /// Decodes the page.
    ///
    /// # Errors
    /// Wrong magic or version, or extents outside `kernel..kernel + kernel_len`.
    pub fn decode(page: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(page);
        if r.array::<8>("magic")? != *MAGIC {
            return Err(DecodeError::Invalid {
                field: "magic",
                got: 0,
            });
        }
        let version = r.u32("version")?;
        if version != VERSION {
            return Err(DecodeError::Invalid {
                field: "version",
                got: version.into(),
            });
        }
        let thread_count = r.u32("thread count")?;
        let layout = Layout {
            elrange: r.u64("elrange")?,
            kernel: r.u64("kernel")?,
            kernel_len: r.u64("kernel length")?,
            threads: r.u64("threads")?,
            thread_count,
            kernel_heap: r.u64("kernel heap")?,
        };
        let mut extent = |field| -> Result<Extent, DecodeError> {
            let found = Extent {
                offset: r.u64(field)?,
                len: r.u64(field)?,
            };
            let inside = found
                .offset
                .checked_sub(layout.kernel)
                .and_then(|at| at.checked_add(found.len))
                .is_some_and(|end| end <= layout.kernel_len);
            if inside {
                Ok(found)
            } else {
                Err(DecodeError::Invalid {
                    field,
                    got: found.offset,
                })
            }
        };
        Ok(Self {
            layout,
            kernel_image: extent("kernel image")?,
            manifest: extent("manifest")?,
            startup: extent("startup list")?,
        })
    }
}
