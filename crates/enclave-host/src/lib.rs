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
//! | [`probe`] | what processor and kernel allow |
//! | [`root`] | paths below the container's root |
//! | [`private`] | the launcher's own descriptors |
//! | [`image`] | `enclave.img` as a file |
//! | [`backend`] | the emulated processor or the SGX device |
//! | [`threads`] | one loop of entries and exits per host thread |
//! | [`signals`] | signals on their way into the enclave |
//! | [`launch`] | all of it, in order |
//! | [`log`] | the launcher's messages |

pub mod area;
pub mod backend;
pub mod calls;
#[cfg(feature = "hostile")]
pub mod hostile;
pub mod image;
pub mod interrupt;
pub mod launch;
pub mod log;
pub mod options;
pub mod private;
pub mod probe;
pub mod root;
pub mod signals;
pub mod start;
pub mod threads;
