// SPDX-License-Identifier: Apache-2.0
//! Verification of DCAP evidence: real, and made wrong in every way.

mod chains;
mod negative;
mod real_quote;
mod world;
