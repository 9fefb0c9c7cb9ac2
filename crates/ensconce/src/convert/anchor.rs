// SPDX-License-Identifier: Apache-2.0
//! Which emulated platform a session tolerates.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use enclave_abi::las::{Answer, DEFAULT_SOCKET, FRAME_MAX, Kind, PORT, Request, TIMEOUT_S};
use las::platform::{DEFAULT_DIR, PlatformInfo};

use crate::args::Convert;
use crate::exit::{Class, Classify as _, Failure};

/// The anchor's 64 digits: as given, or that of the platform behind `--las`,
/// or that of this machine.
pub(crate) fn find(options: &Convert) -> Result<Option<String>, Failure> {
    let anchor = match (&options.allow_emulated_platform, &options.las) {
        (None, _) => return Ok(None),
        (Some(Some(text)), _) => text.clone(),
        (Some(None), Some(las)) => of_service(las).class(
            Class::Usage,
            format!(
                "--allow-emulated-platform names no anchor, and the service at --las={las} does \
                 not tell one; give --allow-emulated-platform=ANCHOR"
            ),
        )?,
        (Some(None), None) => of_this_machine()?,
    };
    let is_hash = anchor.len() == 64
        && anchor
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if is_hash {
        return Ok(Some(anchor));
    }
    Err(Failure::new(
        Class::Usage,
        "--allow-emulated-platform needs the SHA-256 of the platform's anchor in 64 lower-case \
         hexadecimal digits; 'ensconce platform show' prints it",
    ))
}

fn of_this_machine() -> Result<String, Failure> {
    if Path::new(DEFAULT_SOCKET).exists()
        && let Ok(anchor) = of_service(&format!("unix:{DEFAULT_SOCKET}"))
    {
        return Ok(anchor);
    }
    let info = PlatformInfo::read(Path::new(DEFAULT_DIR)).class(
        Class::Usage,
        "--allow-emulated-platform names no anchor and this machine has no platform; give \
         --allow-emulated-platform=ANCHOR, or run 'ensconce platform init' first",
    )?;
    Ok(info.anchor)
}

/// Asks a quoting service who it is.
fn of_service(address: &str) -> anyhow::Result<String> {
    let timeout = Some(Duration::from_secs(TIMEOUT_S));
    let path = address.strip_prefix("unix:").unwrap_or(address);
    let answer = if path.starts_with('/') {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)?;
        ask(stream)?
    } else {
        let stream = match address.rsplit_once(':') {
            Some(_) => TcpStream::connect(address)?,
            None => TcpStream::connect((address, PORT))?,
        };
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)?;
        ask(stream)?
    };
    match answer {
        Answer::Info {
            kind: Kind::Emulated,
            anchor,
            ..
        } => Ok(anchor),
        Answer::Info { .. } => anyhow::bail!("it is not an emulated platform"),
        _ => anyhow::bail!("it answers something else than was asked"),
    }
}

fn ask(mut stream: impl Read + Write) -> anyhow::Result<Answer> {
    let request = serde_json::to_vec(&Request::Info {})?;
    stream.write_all(&u32::try_from(request.len())?.to_le_bytes())?;
    stream.write_all(&request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length))?;
    anyhow::ensure!(length <= FRAME_MAX, "its answer is too long");
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
