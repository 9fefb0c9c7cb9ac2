// SPDX-License-Identifier: Apache-2.0
//! Accepts TLS connections and hands the client's key to the handlers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::KeyHash;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::tls::AnyKey;
use crate::identity::Leaf;
use crate::limits::{MAX_CONNECTIONS, MAX_REST_PER_ADDRESS, Permit, Quota};
use crate::sessions::Requester;

/// Time for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Life of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// Largest header section in bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The requester of a connection, as handlers see it; `None` without certificate.
#[derive(Clone, Debug)]
pub(super) struct Client(pub(super) Option<Requester>);

/// TLS configuration of the REST interface.
///
/// # Errors
/// Key and chain do not fit.
pub fn server_config(leaf: &Leaf) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(AnyKey(provider)))
        .with_single_cert(leaf.chain.clone(), leaf.key())?;
    // Each connection proves its client key anew.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves connections until `stop` changes.
pub async fn accept_loop(
    listener: TcpListener,
    tls: ServerConfig,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let quota = Quota::new(MAX_REST_PER_ADDRESS, MAX_CONNECTIONS);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or similar: waiting helps, spinning does not.
                tracing::warn!(%error, "a REST connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(permit) = quota.take(peer.ip()) else {
            tracing::warn!(%peer, "too many REST connections; closed");
            continue;
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let served = serve(stream, peer, acceptor, router, permit);
            if tokio::time::timeout(CONNECTION_TIMEOUT, served)
                .await
                .is_err()
            {
                tracing::debug!(%peer, "a REST connection took too long; closed");
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
    _permit: Permit,
) {
    // Answers are small; waiting to fill packets only delays them.
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "a TLS handshake took too long"),
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    let client = match certificate.map(|der| requester(der)) {
        None => Client(None),
        Some(Some(requester)) => Client(Some(requester)),
        Some(None) => {
            return tracing::debug!(%peer, "a client certificate is not readable; closed");
        }
    };
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(client.clone());
        router.clone().oneshot(request)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a REST connection ended early");
    }
}

fn requester(der: &[u8]) -> Option<Requester> {
    Some(Requester {
        key: KeyHash::of_certificate_der(der).ok()?,
        certificate_pem: crate::pem::certificate(der),
    })
}
