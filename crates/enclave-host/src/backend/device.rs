// SPDX-License-Identifier: Apache-2.0
//! The SGX device as a backend.

use std::path::Path;

use super::{BackendError, Building, Identity};
use crate::image::Image;

/// Devices in the order in which they are tried.
pub const PATHS: [&str; 5] = [
    "/dev/sgx_enclave",
    "/dev/sgx/enclave",
    "/dev/sgx/sgx_enclave",
    "/dev/sgx",
    "/dev/isgx",
];

/// The first device that exists.
#[must_use]
pub fn find() -> Option<&'static str> {
    PATHS.into_iter().find(|path| Path::new(path).exists())
}

/// ECREATE on the device.
///
/// # Errors
/// [`BackendError::NoDevice`], or [`BackendError::DeviceUnsupported`].
pub fn create(_image: &Image, _identity: &Identity) -> Result<Box<dyn Building>, BackendError> {
    let path = find().ok_or(BackendError::NoDevice)?;
    Err(BackendError::DeviceUnsupported { path })
}
