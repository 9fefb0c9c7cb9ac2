// SPDX-License-Identifier: Apache-2.0
//! Sockets.

/// What socket calls do beyond reading and writing.
pub trait Socket: Send + Sync + core::fmt::Debug {}
