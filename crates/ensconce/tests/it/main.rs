// SPDX-License-Identifier: Apache-2.0
//! The real binary on real images.

mod cache;
mod convert;
mod daemon;
mod messages;
mod native;
mod protection;
mod refusals;
mod run;
mod tool;
mod upload;
