// SPDX-License-Identifier: Apache-2.0
//! The main job on a real image: shown to people by `make demo`, checked by
//! tests.
//!
//! | module | what |
//! |---|---|
//! | [`native`] | the careless native image |
//! | [`dev`] | the services as a developer brings them up |
//! | [`docker`] | a docker daemon of one's own |
//! | [`job`] | convert, run, ask |
//! | [`layout`] | writing native images |
//! | [`markers`] | looking for strings where they must not be |
//! | [`owner`] | a session owner with curl |
//! | [`process`] | programs that run beside the demo and end with it |
//! | [`refusals`] | what must not work, each attempted for real |
//! | [`services`] | an emulated platform, its LAS and a development CAS |
//! | [`stage`] | everything that the main job needs, made afresh |
//! | [`tamper`] | what somebody with the registry in their hands would do |

pub mod dev;
pub mod docker;
pub mod job;
pub mod layout;
pub mod markers;
pub mod native;
pub mod owner;
pub mod process;
pub mod refusals;
pub mod services;
pub mod stage;
pub mod tamper;
