// SPDX-License-Identifier: Apache-2.0
//! The REST interface over TLS: sessions, version, attestation of the CAS itself.
//!
//! The client certificate is asked for but not needed; only its public key counts. Errors are problem
//! documents (RFC 9457). Every answer states that this is a development CAS.

mod connection;
mod info;
mod problem;
mod sessions;
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

pub use connection::{accept_loop, server_config};

use crate::service::Service;
use problem::Problem;

/// Port of the REST interface.
pub const PORT: u16 = 8081;

/// Header of every answer: the mode of the CAS.
pub const MODE_HEADER: &str = "ensconce-cas-mode";
/// Header of every answer: how fresh the store is known to be.
pub const FRESHNESS_HEADER: &str = "ensconce-freshness";

/// All routes.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/version", get(info::version))
        .route("/v1/attest", get(info::attest))
        .route("/v1/sessions", post(sessions::upload).get(sessions::list))
        .route("/v1/sessions/{*name}", get(sessions::read))
        .fallback(|| async { Problem::no_route() })
        .method_not_allowed_fallback(|| async { Problem::no_method() })
        .layer(middleware::from_fn(label))
        .with_state(service)
}

/// States in every answer what kind of CAS it comes from.
async fn label(request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (MODE_HEADER, "dev"),
        (FRESHNESS_HEADER, crate::service::FRESHNESS),
        ("cache-control", "no-store"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}
