// SPDX-License-Identifier: Apache-2.0
//! Whether a docker daemon answers. Image names without a prefix mean it.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::report::Check;

const NAME: &str = "docker";
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
const PATIENCE: Duration = Duration::from_secs(5);
/// More of an answer is not looked at.
const ANSWER_MAX: u64 = 4 << 10;

/// Asks the daemon of `DOCKER_HOST`, else the usual one.
pub(super) fn check() -> Check {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    if host.is_empty() {
        return ask(Path::new(DEFAULT_SOCKET));
    }
    match host.strip_prefix("unix://") {
        Some(path) => ask(Path::new(path)),
        None => Check::warn(
            NAME,
            format!("DOCKER_HOST is '{}'", super::printable(&host)),
            "only unix:///path is supported for image names; files need no daemon: oci:DIR:TAG",
        ),
    }
}

fn ask(socket: &Path) -> Check {
    match ping(socket) {
        Ok(()) => Check::ok(NAME, format!("answers at '{}'", socket.display())),
        Err(error) => Check::warn(
            NAME,
            format!("no answer at '{}': {error}", socket.display()),
            "start docker, or use images in files: oci:DIR:TAG, docker-archive:FILE",
        ),
    }
}

fn ping(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut status = [0; 12];
    stream.take(ANSWER_MAX).read_exact(&mut status)?;
    // "HTTP/1.0 200" or "HTTP/1.1 200"
    if status.starts_with(b"HTTP/1.") && status.ends_with(b" 200") {
        return Ok(());
    }
    Err(io::Error::other("something else than docker answers"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::doctor::report::Outcome;

    fn outcome_of(answer: &'static [u8]) -> Outcome {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).expect("socket");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("client");
            let mut request = [0; 64];
            let _ = stream.read(&mut request);
            stream.write_all(answer).expect("answer");
        });
        let check = ask(&path);
        server.join().expect("server");
        check.outcome
    }

    #[test]
    fn only_a_daemon_that_says_ok_is_ok() {
        assert_eq!(outcome_of(b"HTTP/1.1 200 OK\r\n\r\nOK"), Outcome::Ok);
        assert_eq!(outcome_of(b"HTTP/1.1 500 Oh\r\n\r\n"), Outcome::Warn);
        assert_eq!(outcome_of(b"220 smtp ready\r\n"), Outcome::Warn);
        assert_eq!(outcome_of(b""), Outcome::Warn);
        assert_eq!(ask(Path::new("/nowhere/s")).outcome, Outcome::Warn);
    }
}
