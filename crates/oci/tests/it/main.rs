// SPDX-License-Identifier: Apache-2.0
//! The crate as its users see it, with archives made by hand, skopeo and a
//! real docker daemon.

mod dockerd;
mod fixture;
mod hostile;
mod merge;
mod output;
mod recall;
mod selection;
mod skopeo;
mod unpack;
