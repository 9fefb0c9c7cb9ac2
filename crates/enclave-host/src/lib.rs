// SPDX-License-Identifier: Apache-2.0
//! The launcher: loads an enclave through a backend, runs its threads and
//! serves its host calls. Nothing here is trusted by anybody.
//!
//! | module | what |
//! |---|---|
//! | [`options`] | arguments and `SCONE_*` variables |
//! | [`start`] | start block, CONFIGID, agreement with measured values |
//! | [`area`] | one thread's call area |
//! | [`calls`] | the host calls that the Linux kernel answers |
//! | [`interrupt`] | blocking calls that a signal cannot miss |
//! | [`root`] | paths below the container's root |

pub mod area;
pub mod calls;
pub mod interrupt;
pub mod options;
pub mod root;
pub mod start;
