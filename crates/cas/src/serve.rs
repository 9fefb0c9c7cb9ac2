// SPDX-License-Identifier: Apache-2.0
//! Starting and stopping the development server.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attest::time::UnixTime;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit::{Audit, Event};
use crate::data_dir::{DataDir, DataDirError};
use crate::identity::IdentityError;
use crate::service::{FRESHNESS, Service};
use crate::sessions::Sessions;
use crate::store::{EmbeddedStore, StoreError};
use crate::{api, channel};

/// What a development server needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Data directory.
    pub data: PathBuf,
    /// Address to listen on.
    pub listen: IpAddr,
    /// Port of the REST interface; 0: any free one.
    pub api_port: u16,
    /// Port of the attested channel; 0: any free one.
    pub attested_port: u16,
    /// Further host names and addresses of the TLS certificate.
    pub names: Vec<String>,
    /// Evidence that the server believes.
    pub trust: channel::Trust,
    /// Where the time comes from.
    pub clock: fn() -> UnixTime,
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The data directory is unusable.
    #[error("The data directory is unusable")]
    DataDir(#[from] DataDirError),
    /// The database is unusable.
    #[error("The database is unusable")]
    Store(#[from] StoreError),
    /// No TLS certificate.
    #[error("The TLS certificate cannot be made")]
    Identity(#[from] IdentityError),
    /// TLS cannot be configured.
    #[error("TLS of the REST interface cannot be configured")]
    Tls(#[from] rustls::Error),
    /// TLS cannot be configured.
    #[error("TLS of the attested channel cannot be configured")]
    ChannelTls(#[from] attest::channel::tls::TlsError),
    /// The stored floor of time is unusable.
    #[error("The stored floor of time is unusable")]
    Floor(#[from] channel::FloorError),
    /// A port is taken or not allowed.
    #[error("Cannot listen on {address}; choose another port or address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ready file cannot be written.
    #[error("Cannot write the ready file '{path}'")]
    ReadyFile {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A server that accepts connections.
#[derive(Debug)]
pub struct Running {
    /// What it serves.
    pub service: Arc<Service>,
    /// Address of the REST interface.
    pub api: SocketAddr,
    /// Address of the attested channel.
    pub attested: SocketAddr,
    emulated: Vec<String>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Content of the ready file.
#[derive(Debug, Serialize)]
struct Ready {
    api: SocketAddr,
    attested: SocketAddr,
    cas_key: String,
    cas_root_spki_sha256: String,
    dev: bool,
    freshness: &'static str,
}

async fn listen(ip: IpAddr, port: u16) -> Result<(TcpListener, SocketAddr), ServeError> {
    let address = SocketAddr::new(ip, port);
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Starts a development server; it runs until [`Running::stop`].
///
/// # Errors
/// See [`ServeError`]; nothing keeps running then.
pub async fn start_dev(options: Options) -> Result<Running, ServeError> {
    let data = DataDir::open(&options.data)?;
    let identity_key = data.dev_sealing_key()?;
    let identity = data.identity(&identity_key)?;
    let store = EmbeddedStore::open(&data.file("cas.redb"), identity_key)?;
    let audit = Audit::new(data.append("audit.jsonl")?);
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    if !options.listen.is_unspecified() && !options.listen.is_loopback() {
        names.push(options.listen.to_string());
    }
    names.extend(options.names.iter().cloned());
    let leaf = identity.leaf(&names)?;
    let service = Arc::new(Service {
        sessions: Sessions::new(Arc::new(store)),
        audit,
        identity,
    });
    let api_tls = api::server_config(&leaf)?;
    let channel_tls = attest::channel::tls::server_config(leaf.chain.clone(), leaf.key())?;
    let emulated = options.trust.emulated();
    let channel = channel::Server::new(Arc::clone(&service), &leaf, options.trust, options.clock)?;
    let (api_listener, api) = listen(options.listen, options.api_port).await?;
    let (attested_listener, attested) = listen(options.listen, options.attested_port).await?;
    service.audit.record(&Event::Started {
        cas_key: service.key_hash().to_string(),
        freshness: FRESHNESS,
        dev: true,
    });
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let router = api::router(Arc::clone(&service));
    tasks.spawn(api::accept_loop(
        api_listener,
        api_tls,
        router,
        stopped.clone(),
    ));
    tasks.spawn(channel::accept_loop(
        attested_listener,
        channel_tls,
        channel,
        stopped,
    ));
    Ok(Running {
        service,
        api,
        attested,
        emulated,
        stop,
        tasks,
    })
}

impl Running {
    /// SHA-256 of the SPKI of each emulated platform that is believed, hex.
    pub fn emulated_anchors(&self) -> &[String] {
        &self.emulated
    }

    /// Stops accepting and waits for the listeners to end.
    pub async fn stop(mut self) {
        // Receivers live as long as the tasks.
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Writes ports and key hash for whoever waits for the start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_ready_file(&self, path: &Path) -> Result<(), ServeError> {
        let ready = Ready {
            api: self.api,
            attested: self.attested,
            cas_key: self.service.key_hash().to_string(),
            cas_root_spki_sha256: self.service.key_hash().to_hex(),
            dev: true,
            freshness: FRESHNESS,
        };
        let failed = |source| ServeError::ReadyFile {
            path: path.display().to_string(),
            source,
        };
        let json = serde_json::to_vec(&ready).map_err(|e| failed(e.into()))?;
        // Readers see the whole file or none.
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&part).map_err(failed)?;
        file.write_all(&json).map_err(failed)?;
        std::fs::rename(&part, path).map_err(failed)
    }
}
