// SPDX-License-Identifier: Apache-2.0
//! `launch`: starts an enclave and becomes its servant.

use std::process::ExitCode;

use enclave_host::launch::launch;
use enclave_host::log;
use enclave_host::options::Options;
use enclave_host::probe;

/// The launcher could not start the enclave; programs rarely end with it.
const NOT_STARTED: u8 = 125;

fn main() -> ExitCode {
    let is_launcher = std::env::current_exe()
        .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "launch"));
    if is_launcher && probe::is_wanted(&std::env::args_os().collect::<Vec<_>>()) {
        println!("{}", probe::probe());
        return ExitCode::SUCCESS;
    }
    match Options::of_process().and_then(launch) {
        Ok(never) => match never {},
        Err(error) => {
            log::fatal(format_args!("{error:#}"));
            ExitCode::from(NOT_STARTED)
        }
    }
}
