// SPDX-License-Identifier: Apache-2.0
//! Silicon or the emulated platform: what a container can be given.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use attest::las::Address;

use super::report::Check;
use crate::dev::{LasAnswer, ask_las, usual_socket};

/// Devices by their names in mainline Linux and in older drivers.
const DEVICES: [&str; 2] = ["/dev/sgx_enclave", "/dev/sgx/enclave"];
/// Devices of drivers without SGX2, which our enclaves need.
const OLD_DEVICES: [&str; 1] = ["/dev/isgx"];

/// What was found.
#[derive(Debug)]
pub(super) struct Sgx {
    device: Option<&'static str>,
    old_device: Option<&'static str>,
    socket: PathBuf,
    /// What the service on the socket says.
    las: Result<LasAnswer, String>,
}

/// Looks for devices and asks the platform's socket.
pub(super) fn find() -> Sgx {
    let is_device = |path: &&'static str| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device())
    };
    let usual = PathBuf::from(enclave_abi::las::DEFAULT_SOCKET);
    let ask = |socket: &PathBuf| ask_las(&Address::Unix(socket.clone()));
    let of_system = ask(&usual);
    // Without the system's platform, that of this user's `dev up`.
    let of_user = || -> Option<_> {
        let socket = usual_socket().filter(|socket| *socket != usual)?;
        Some((Ok(ask(&socket).ok()?), socket))
    };
    let (las, socket) = match of_system {
        Ok(_) => (of_system, usual.clone()),
        Err(problem) => of_user().unwrap_or_else(|| (Err(problem), usual.clone())),
    };
    Sgx {
        device: DEVICES.iter().find(|path| is_device(path)).copied(),
        old_device: OLD_DEVICES.iter().find(|path| is_device(path)).copied(),
        las,
        socket,
    }
}

impl Sgx {
    /// The flag for `docker run`.
    pub(super) fn flag(&self) -> Option<String> {
        if let Some(device) = self.device {
            return Some(format!("--device={device}"));
        }
        let dir = self
            .socket
            .parent()
            .unwrap_or_else(|| Path::new("/"))
            .display();
        // The launcher looks for it at the usual place, wherever it is here.
        self.las.is_ok().then(|| format!("-v {dir}:/run/ensconce"))
    }

    fn no_device(&self) -> String {
        let tried = DEVICES.join(", ");
        self.old_device.map_or_else(
            || format!("none, tried {tried}"),
            |old| format!("none, tried {tried}; '{old}' belongs to a driver without SGX2"),
        )
    }
}

/// Prints the flag on standard output, or says why there is none.
pub(super) fn print_flag(sgx: &Sgx) -> ExitCode {
    if let Some(flag) = sgx.flag() {
        println!("{flag}");
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "error: no SGX device ({}) and no emulated platform ({}); start one with 'ensconce dev up'",
        sgx.no_device(),
        sgx.las.as_ref().err().map_or("", String::as_str)
    );
    ExitCode::FAILURE
}

/// All checks of this file.
pub(super) fn checks(sgx: &Sgx) -> Vec<Check> {
    let platform = match &sgx.las {
        Ok(las) if las.is_emulated => Check::ok(
            "platform",
            format!(
                "EMULATED, it protects nothing from root; anchor {}",
                las.anchor
            ),
        ),
        Ok(las) => Check::ok("platform", format!("hardware, anchor {}", las.anchor)),
        Err(problem) => Check::warn(
            "platform",
            problem.clone(),
            "attestation needs a LAS; for development: ensconce dev up",
        ),
    };
    let device = match sgx.device {
        Some(device) => Check::ok("SGX device", device),
        None => Check::warn(
            "SGX device",
            sgx.no_device(),
            "only the emulated platform can be used on this machine",
        ),
    };
    vec![device, platform]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sgx(device: Option<&'static str>, las: Result<LasAnswer, String>) -> Sgx {
        Sgx {
            device,
            old_device: None,
            socket: "/run/user/7/ensconce/las.sock".into(),
            las,
        }
    }

    fn emulated() -> LasAnswer {
        LasAnswer {
            is_emulated: true,
            anchor: "ab".repeat(32),
        }
    }

    #[test]
    fn silicon_wins_over_emulation_and_without_both_there_is_no_flag() {
        let none = || Err("nobody".to_owned());
        let device = Some("/dev/sgx_enclave");
        assert_eq!(
            sgx(device, Ok(emulated())).flag().as_deref(),
            Some("--device=/dev/sgx_enclave")
        );
        assert_eq!(
            sgx(None, Ok(emulated())).flag().as_deref(),
            Some("-v /run/user/7/ensconce:/run/ensconce")
        );
        assert_eq!(sgx(None, none()).flag(), None);
        assert_eq!(print_flag(&sgx(None, none())), ExitCode::FAILURE);
    }

    #[test]
    fn emulation_says_so() {
        let checks = checks(&sgx(None, Ok(emulated())));
        assert!(checks.iter().any(|check| check.found.contains("EMULATED")));
    }
}
