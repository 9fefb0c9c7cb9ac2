// SPDX-License-Identifier: Apache-2.0
//! The agent's program: one message per failure, the program's exit code
//! otherwise.

use std::process::ExitCode;

/// Exit code of an agent that started nothing.
const NOT_STARTED: u8 = 126;

fn main() -> ExitCode {
    match agent::run::run(&mut agent::control::Files::default()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("ensconce: {error:#}");
            ExitCode::from(NOT_STARTED)
        }
    }
}
