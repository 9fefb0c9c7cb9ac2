// SPDX-License-Identifier: Apache-2.0
//! The docker daemon, by its HTTP API on a unix socket: exporting and loading
//! images. No other call of the API is used.

mod http;

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::limits::Limits;
use crate::path::printable;
use crate::reference::ImageName;
use crate::slice::FileSlice;

pub use http::HttpError;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// Exporting a large image can keep the daemon busy before the first byte.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Longest line or message of the daemon that is looked at.
const MAX_MESSAGE: u64 = 64 << 10;

/// Why the docker daemon did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// No daemon, or no permission to talk to it.
    #[error(
        "Cannot reach the docker daemon at '{}'; is it running, and may this user open the \
         socket? Images in files need no daemon: use oci:DIR:TAG or docker-archive:FILE",
        socket.display()
    )]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// `DOCKER_HOST` names something that is no unix socket.
    #[error("DOCKER_HOST is '{value}', but only unix:///path is supported")]
    Host {
        /// Its value.
        value: String,
    },
    /// The conversation broke.
    #[error("The docker daemon's answer is unusable")]
    Http(#[from] HttpError),
    /// Reading or writing the image's bytes failed.
    #[error("Cannot move image data from or to the docker daemon")]
    Io(#[from] io::Error),
    /// No such image.
    #[error("The docker daemon has no image '{name}'; pull it first, or name a file: oci:DIR:TAG")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// The daemon said no.
    #[error("The docker daemon refused (status {status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// More bytes than the limits allow.
    #[error("The docker daemon sends more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
}

/// The error documents and progress lines of the daemon.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    message: Option<String>,
    error: Option<String>,
}

/// A docker daemon on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    /// The daemon at a unix socket.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The daemon that `DOCKER_HOST` names, else the usual one.
    ///
    /// # Errors
    /// [`DaemonError::Host`] unless it is `unix://` and a path.
    pub fn from_env() -> Result<Self, DaemonError> {
        match env::var("DOCKER_HOST") {
            Ok(value) if !value.is_empty() => match value.strip_prefix("unix://") {
                Some(path) if path.starts_with('/') => Ok(Self::at(path)),
                _ => Err(DaemonError::Host { value }),
            },
            _ => Ok(Self::at(DEFAULT_SOCKET)),
        }
    }

    fn connect(&self) -> Result<UnixStream, DaemonError> {
        let connect = || {
            let stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Ok(stream)
        };
        connect().map_err(|source| DaemonError::Connect {
            socket: self.socket.clone(),
            source,
        })
    }

    /// Exports an image as a docker archive into a private unlinked file.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub fn export(
        &self,
        name: &ImageName,
        limits: &Limits,
        temp: &Path,
    ) -> Result<FileSlice, DaemonError> {
        let mut stream = self.connect()?;
        // Names hold no character that would need escaping in a path.
        write!(
            stream,
            "GET /images/{name}/get HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
        )?;
        let response = http::Response::read(stream)?;
        if response.status == 404 {
            return Err(DaemonError::NotFound {
                name: name.to_string(),
            });
        }
        if response.status != 200 {
            return Err(refusal(response));
        }
        let limit = limits.stream;
        let spool = FileSlice::spool(temp, response.body.take(limit.saturating_add(1)))?;
        if spool.len() > limit {
            return Err(DaemonError::TooLarge { limit });
        }
        Ok(spool)
    }

    /// Loads a docker archive that `write` produces.
    ///
    /// # Errors
    /// [`DaemonError`], also for what `write` fails with.
    pub fn load(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), DaemonError> {
        let stream = self.connect()?;
        let mut body = &stream;
        write!(
            body,
            "POST /images/load?quiet=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\
             Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n"
        )?;
        let mut chunks = http::ChunkWriter::new(body);
        let written = write(&mut chunks).and_then(|()| chunks.finish());
        if let Err(error) = written {
            // A daemon that has read enough to say no closes its end.
            return match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    match http::Response::read(stream) {
                        Ok(response) if response.status != 200 => Err(refusal(response)),
                        _ => Err(error.into()),
                    }
                }
                _ => Err(error.into()),
            };
        }
        let response = http::Response::read(stream)?;
        if response.status != 200 {
            return Err(refusal(response));
        }
        // Status 200 comes before the work; failures follow as JSON lines.
        let status = response.status;
        let mut lines = BufReader::new(response.body.take(limits_of_progress()));
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines
                .by_ref()
                .take(MAX_MESSAGE)
                .read_until(b'\n', &mut line)?
                == 0
            {
                return Ok(());
            }
            let message: Message = serde_json::from_slice(&line).unwrap_or_default();
            if let Some(error) = message.error {
                return Err(DaemonError::Refused {
                    status,
                    message: printable(error.as_bytes()),
                });
            }
        }
    }
}

/// Progress lines of one load, in bytes: far more than any load prints.
fn limits_of_progress() -> u64 {
    16 << 20
}

fn refusal(response: http::Response) -> DaemonError {
    let status = response.status;
    let mut text = Vec::new();
    let message = match response.body.take(MAX_MESSAGE).read_to_end(&mut text) {
        Ok(_) => match serde_json::from_slice::<Message>(&text) {
            Ok(Message {
                message: Some(message),
                ..
            }) => message.into_bytes(),
            _ => text,
        },
        Err(_) => Vec::new(),
    };
    DaemonError::Refused {
        status,
        message: printable(&message),
    }
}
