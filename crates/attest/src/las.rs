// SPDX-License-Identifier: Apache-2.0
//! Asking a local attestation service, blocking.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use enclave_abi::las::{Answer, FRAME_MAX, Request, TIMEOUT_S};
use thiserror::Error;

use crate::channel::codec::{CodecError, read_frame, write_frame};

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// `HOST:PORT`.
    Tcp(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

impl Address {
    /// Parses `unix:/path`, `HOST:PORT` or `HOST` (with the default port).
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(path.into()));
        }
        if text.is_empty() || text.contains(char::is_whitespace) {
            return None;
        }
        let has_port = text
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Some(Self::Tcp(if has_port {
            text.to_owned()
        } else {
            format!("{text}:{}", enclave_abi::las::PORT)
        }))
    }
}

/// Why a question got no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LasError {
    /// Nobody listens there.
    #[error("no attestation service answers at {address}")]
    Connect {
        /// Where it was looked for.
        address: Address,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The exchange failed.
    #[error("exchange with the attestation service at {address} failed")]
    Exchange {
        /// Which service.
        address: Address,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// The service refused.
    #[error("attestation service refused: {message}")]
    Refused {
        /// Its reason, printable ASCII.
        message: String,
    },
    /// The answer is to another question.
    #[error("attestation service answered something else than {expected}")]
    Unexpected {
        /// What was due.
        expected: &'static str,
    },
}

/// A connection to a service.
pub struct Client {
    address: Address,
    stream: Box<dyn Stream>,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.address)
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`LasError::Connect`].
    pub fn connect(address: &Address) -> Result<Self, LasError> {
        let timeout = Some(Duration::from_secs(TIMEOUT_S));
        let open = || -> io::Result<Box<dyn Stream>> {
            match address {
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path)?;
                    stream.set_read_timeout(timeout)?;
                    stream.set_write_timeout(timeout)?;
                    Ok(Box::new(stream))
                }
                Address::Tcp(address) => {
                    let stream = connect_tcp(address)?;
                    stream.set_read_timeout(timeout)?;
                    stream.set_write_timeout(timeout)?;
                    Ok(Box::new(stream))
                }
            }
        };
        Ok(Self {
            stream: open().map_err(|source| LasError::Connect {
                address: address.clone(),
                source,
            })?,
            address: address.clone(),
        })
    }

    /// Asks one question. A refusal is an error.
    ///
    /// # Errors
    /// [`LasError`]; after an exchange error the connection is of no use.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, LasError> {
        let exchange = |stream: &mut Box<dyn Stream>| -> Result<Answer, CodecError> {
            write_frame(stream, request)?;
            read_frame(stream, FRAME_MAX)
        };
        match exchange(&mut self.stream) {
            Ok(Answer::Error { message }) => Err(LasError::Refused {
                message: printable(&message),
            }),
            Ok(answer) => Ok(answer),
            Err(source) => Err(LasError::Exchange {
                address: self.address.clone(),
                source,
            }),
        }
    }
}

fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()?.take(4) {
        match TcpStream::connect_timeout(&address, Duration::from_secs(TIMEOUT_S)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A stranger's message, fit for a terminal.
fn printable(message: &str) -> String {
    message
        .chars()
        .take(300)
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '?'
            }
        })
        .collect()
}
