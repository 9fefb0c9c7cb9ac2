// SPDX-License-Identifier: Apache-2.0
//! Container images: references, layouts, archives, the docker daemon,
//! layers and the merged root view.
//!
//! Everything that comes out of an image is hostile: lengths, counts and
//! depths are bounded by [`limits::Limits`], names are normalised once into
//! [`path::RootPath`], and no archive is ever unpacked by its own rules.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@reference`] | `oci:DIR:TAG`, `docker-archive:FILE:NAME`, names in the daemon |
//! | [`image`] | opening an image: verified manifest and configuration |
//! | [`layout`], [`archive`], [`daemon`] | the three places an image can be |
//! | [`layer`] | walking, writing and rewriting layers |
//! | [`root`] | the merged root, links, content, selection by path |
//! | [`config`] | native and new configurations |
//! | [`output`] | writing an image and then giving it its name |
//! | [`mod@unpack`] | unpacking below a private directory |
//!
//! ```no_run
//! use oci::{image::Image, limits::Limits, path::RootPath, root::RootView};
//!
//! let temp = std::env::temp_dir();
//! let limits = Limits::default();
//! let image = Image::open(&"oci:images:flask".parse()?, &limits, &temp)?;
//! let view = RootView::open(&image, &limits, &temp)?;
//! let (path, _) = view.resolve(&RootPath::parse("/usr/bin/python3")?)?;
//! println!("{path} of {}", image.digest());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod archive;
pub mod compression;
pub mod config;
pub mod daemon;
pub mod digest;
pub mod image;
pub mod layer;
pub mod layout;
pub mod limits;
pub mod manifest;
pub mod output;
pub mod path;
pub mod reference;
pub mod root;
pub mod slice;
pub mod unpack;
