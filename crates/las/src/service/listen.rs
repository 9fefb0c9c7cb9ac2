// SPDX-License-Identifier: Apache-2.0
//! Listeners: a unix socket for this machine, TCP only when asked for.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use attest::channel::codec::{CodecError, encode, read_frame};
use attest::time::UnixTime;
use enclave_abi::las::{Answer, FRAME_MAX, Request, TIMEOUT_S};
use thiserror::Error;

use super::{Access, Service};

/// Most connections at a time.
const MAX_CONNECTIONS: usize = 256;

/// Where to listen.
#[derive(Debug, Clone)]
pub struct Options {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// Permission bits of the unix socket.
    pub mode: u32,
    /// TCP address, where wanted.
    pub tcp: Option<SocketAddr>,
    /// Whether `tcp` may be an address that other machines reach.
    pub insecure_public: bool,
}

/// Why the service cannot listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// A TCP address that other machines reach.
    #[error(
        "{address} can be reached from other machines, which could then have quotes made here; use a loopback address, or --insecure-public"
    )]
    Public {
        /// The address.
        address: SocketAddr,
    },
    /// Permission bits that let everybody in, or none at all.
    #[error("socket mode {mode:o} is not possible: at most 0666, no execute or special bits")]
    Mode {
        /// The mode.
        mode: u32,
    },
    /// Another service listens there.
    #[error("another service answers at {}; stop it or choose another --socket", path.display())]
    Busy {
        /// The socket.
        path: PathBuf,
    },
    /// Something else lies there.
    #[error("{} exists and is no socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("cannot listen at {address}")]
    Io {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A listening service.
#[derive(Debug)]
pub struct Running {
    /// The unix socket.
    pub socket: PathBuf,
    /// The TCP address with its actual port.
    pub tcp: Option<SocketAddr>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Running {
    /// Waits for as long as the listeners live, which is for ever.
    pub fn wait(self) {
        for thread in self.threads {
            // A listener that panicked has printed why; the others go on.
            let _ = thread.join();
        }
    }
}

/// Starts to listen; connections are served in threads of their own.
///
/// # Errors
/// [`ListenError`]; nothing listens then.
pub fn serve(service: Arc<Service>, options: &Options) -> Result<Running, ListenError> {
    if options.mode & !0o666 != 0 || options.mode & 0o600 != 0o600 {
        return Err(ListenError::Mode { mode: options.mode });
    }
    let tcp = match options.tcp {
        Some(address) if !address.ip().is_loopback() && !options.insecure_public => {
            return Err(ListenError::Public { address });
        }
        Some(address) => Some(
            TcpListener::bind(address).map_err(|source| ListenError::Io {
                address: address.to_string(),
                source,
            })?,
        ),
        None => None,
    };
    let tcp_address = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
    let unix = bind_unix(&options.socket, options.mode)?;

    let open = Arc::new(AtomicUsize::new(0));
    let mut threads = Vec::new();
    {
        let (service, open) = (Arc::clone(&service), Arc::clone(&open));
        threads.push(thread::spawn(move || {
            for stream in unix.incoming() {
                accept(stream, &service, &open, Access::Cpu, |stream| {
                    log_peer(stream);
                });
            }
        }));
    }
    if let Some(tcp) = tcp {
        threads.push(thread::spawn(move || {
            for stream in tcp.incoming() {
                accept(
                    stream,
                    &service,
                    &open,
                    Access::Quotes,
                    |stream: &TcpStream| {
                        if let Ok(peer) = stream.peer_addr() {
                            tracing::debug!(%peer, "connection");
                        }
                    },
                );
            }
        }));
    }
    Ok(Running {
        socket: options.socket.clone(),
        tcp: tcp_address,
        threads,
    })
}

fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Io {
        address: format!("unix:{}", path.display()),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {
            if UnixStream::connect(path).is_ok() {
                return Err(ListenError::Busy {
                    path: path.to_owned(),
                });
            }
            fs::remove_file(path).map_err(failed)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
        }
        Err(source) => return Err(failed(source)),
    }
    // Made under another name and renamed when its mode is right, so that it is
    // never reachable with a wider one.
    let hidden = path.with_extension(format!("new-{}", std::process::id()));
    let listener = UnixListener::bind(&hidden).map_err(failed)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&hidden, path))
        .map_err(failed)?;
    Ok(listener)
}

fn log_peer(stream: &UnixStream) {
    match rustix::net::sockopt::socket_peercred(stream) {
        Ok(peer) => tracing::info!(
            pid = peer.pid.as_raw_nonzero().get(),
            uid = peer.uid.as_raw(),
            gid = peer.gid.as_raw(),
            "connection"
        ),
        Err(error) => tracing::warn!(%error, "connection of an unknown peer"),
    }
}

/// A stream whose single operations can be limited in time.
trait Limited: Read + Write + Send + 'static {
    fn limit(&self, time: Duration) -> io::Result<()>;
    /// Says that nothing more will be sent.
    fn finish(&self) -> io::Result<()>;
}

impl Limited for UnixStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }

    fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Limited for TcpStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }

    fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Gives back a place among the open connections, also on panic.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn accept<S: Limited>(
    stream: io::Result<S>,
    service: &Arc<Service>,
    open: &Arc<AtomicUsize>,
    access: Access,
    log: impl Fn(&S),
) {
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => {
            // Out of descriptors: pause instead of spinning.
            tracing::warn!(%error, "connection could not be accepted");
            thread::sleep(Duration::from_millis(50));
            return;
        }
    };
    log(&stream);
    let place = Place(Arc::clone(open));
    if open.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
        tracing::warn!("too many connections, one is dropped");
        return;
    }
    let service = Arc::clone(service);
    let spawned = thread::Builder::new()
        .name("connection".to_owned())
        .spawn(move || {
            let _place = place;
            converse(stream, &service, access);
        });
    if let Err(error) = spawned {
        tracing::warn!(%error, "connection could not be served");
    }
}

/// A stream that gives up when the time of a request is over, however slowly
/// the bytes drip.
struct Timed<S> {
    stream: S,
    deadline: Instant,
}

impl<S: Limited> Timed<S> {
    fn renew(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.limit(left)
    }
}

impl<S: Limited> Read for Timed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.renew()?;
        self.stream.read(buffer)
    }
}

/// Answers requests until the peer is done, silent or wrong.
fn converse<S: Limited>(stream: S, service: &Service, access: Access) {
    let limit = Duration::from_secs(TIMEOUT_S);
    let mut timed = Timed {
        stream,
        deadline: Instant::now(),
    };
    loop {
        timed.deadline = Instant::now() + limit;
        let answer = match read_frame::<Request>(&mut timed, FRAME_MAX) {
            Ok(request) => service.answer(&request, access, UnixTime::from_system()),
            Err(CodecError::Closed | CodecError::Io(_)) => return,
            Err(error) => {
                // The position in the stream is lost: say why and close. What
                // the peer still sends is swallowed, or closing would reset the
                // connection and the peer would not see the reason.
                let message = error.to_string();
                if send(&mut timed, &Answer::Error { message }).is_ok()
                    && timed.stream.finish().is_ok()
                {
                    let rest = u64::try_from(FRAME_MAX).unwrap_or(u64::MAX);
                    let _ = io::copy(&mut timed.by_ref().take(rest), &mut io::sink());
                }
                return;
            }
        };
        if send(&mut timed, &answer).is_err() {
            return;
        }
    }
}

fn send<S: Limited>(timed: &mut Timed<S>, answer: &Answer) -> Result<(), CodecError> {
    let bytes = encode(answer)?;
    timed.stream.limit(Duration::from_secs(TIMEOUT_S))?;
    timed.stream.write_all(&bytes)?;
    timed.stream.flush()?;
    Ok(())
}
