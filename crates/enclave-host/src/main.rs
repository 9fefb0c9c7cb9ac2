// SPDX-License-Identifier: Apache-2.0
//! `launch`: starts an enclave and becomes its servant.

use std::process::ExitCode;

use enclave_host::launch::launch;
use enclave_host::log;
use enclave_host::options::Options;

/// The launcher could not start the enclave; programs rarely end with it.
const NOT_STARTED: u8 = 125;

fn main() -> ExitCode {
    match Options::of_process().and_then(launch) {
        Ok(never) => match never {},
        Err(error) => {
            log::fatal(format_args!("{error:#}"));
            ExitCode::from(NOT_STARTED)
        }
    }
}
