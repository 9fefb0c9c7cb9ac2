// SPDX-License-Identifier: Apache-2.0
//! `/v1/sessions`.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http_body_util::BodyExt as _;
use policy::SessionName;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::connection::Client;
use super::problem::Problem;
use crate::audit::Event;
use crate::service::{FRESHNESS, Service};
use crate::sessions::{Requester, SessionError};

/// Largest request body: a session document in JSON.
const MAX_BODY: usize = 2 * policy::MAX_DOCUMENT + 1024;
/// How much of a longer body is still read.
const MAX_DROPPED: usize = 16 << 20;

/// JSON form of an upload.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upload {
    session: Zeroizing<String>,
}

/// Answer to an upload.
#[derive(Debug, Serialize)]
struct UploadedAnswer {
    name: String,
    hash: String,
    created: bool,
    warnings: Vec<String>,
    dev: bool,
    freshness: &'static str,
}

/// Answer to a read.
#[derive(Serialize)]
struct SessionAnswer {
    session: Zeroizing<String>,
    hash: String,
    dev: bool,
    freshness: &'static str,
}

/// Answer to a listing.
#[derive(Debug, Serialize)]
struct ListAnswer {
    sessions: Vec<String>,
    dev: bool,
    freshness: &'static str,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    hash: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    under: Option<String>,
}

pub(super) async fn upload(
    State(service): State<Arc<Service>>,
    Extension(Client(client)): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = collect(body).await?;
    let text = document(&headers, &body)?;
    let uploaded = service.sessions.upload(&text, client.as_ref()).await;
    let uploaded = uploaded.map_err(|error| refused(&service, client.as_ref(), &error))?;
    service.audit.record(&Event::SessionUploaded {
        session: uploaded.name.to_string(),
        created: uploaded.created,
        by: client.map(|c| c.key.to_string()).unwrap_or_default(),
    });
    let status = if uploaded.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let answer = UploadedAnswer {
        name: uploaded.name.to_string(),
        hash: hex::encode(uploaded.hash),
        created: uploaded.created,
        warnings: uploaded.warnings,
        dev: true,
        freshness: FRESHNESS,
    };
    Ok((status, Json(answer)).into_response())
}

/// Reads a body. One that is too long is read on for a while and dropped, so that its sender comes to
/// read the answer instead of finding the connection reset.
async fn collect(mut body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let expected = body
        .size_hint()
        .exact()
        .and_then(|n| usize::try_from(n).ok());
    let expected = expected.unwrap_or(MAX_BODY).min(MAX_BODY);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected));
    let mut dropped = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Problem::bad_request("The body was not received completely"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if dropped == 0 && bytes.len() + data.len() <= MAX_BODY {
            bytes.extend_from_slice(data);
            continue;
        }
        dropped += data.len();
        if dropped > MAX_DROPPED {
            break;
        }
    }
    if dropped == 0 {
        return Ok(bytes);
    }
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    let detail = format!(
        "A session document has at most {} bytes",
        policy::MAX_DOCUMENT
    );
    Err(Problem::new(
        status,
        "too-long",
        "The body is too long",
        detail,
    ))
}

/// The document of an upload: the body itself, or the member `session` of a JSON body.
fn document(headers: &HeaderMap, body: &[u8]) -> Result<Zeroizing<String>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if kind.split(';').next().map(str::trim) == Some("application/json") {
        // The parser's own message could quote a secret.
        let upload: Upload = serde_json::from_slice(body)
            .map_err(|_| Problem::bad_request("The JSON body must be {\"session\": \"<YAML>\"}"))?;
        return Ok(upload.session);
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| Problem::bad_request("The session document is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

pub(super) async fn read(
    State(service): State<Arc<Service>>,
    Extension(Client(client)): Extension<Client>,
    Path(name): Path<String>,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|_| Problem::bad_request("The only parameter is 'hash'"))?;
    let name = session_name(&name)?;
    let hash = match query.hash {
        None => None,
        Some(text) => {
            let mut hash = [0; 32];
            hex::decode_to_slice(&text, &mut hash)
                .map_err(|_| Problem::bad_request("'hash' has 64 hexadecimal digits"))?;
            Some(hash)
        }
    };
    let found = service
        .sessions
        .read(&name, hash.as_ref(), client.as_ref())
        .map_err(|error| refused(&service, client.as_ref(), &error))?;
    service.audit.record(&Event::SessionRead {
        session: name.to_string(),
        by: client.map(|c| c.key.to_string()),
    });
    let answer = SessionAnswer {
        session: found.yaml,
        hash: hex::encode(found.hash),
        dev: true,
        freshness: FRESHNESS,
    };
    Ok(Json(answer).into_response())
}

pub(super) async fn list(
    State(service): State<Arc<Service>>,
    Extension(Client(client)): Extension<Client>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|_| Problem::bad_request("The only parameter is 'under'"))?;
    let under = query.under.as_deref().map(session_name).transpose()?;
    let sessions = service
        .sessions
        .list(under.as_ref(), client.as_ref())
        .map_err(|error| refused(&service, client.as_ref(), &error))?;
    let answer = ListAnswer {
        sessions,
        dev: true,
        freshness: FRESHNESS,
    };
    Ok(Json(answer).into_response())
}

fn session_name(text: &str) -> Result<SessionName, Problem> {
    SessionName::parse(text).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Turns a refusal into its answer and tells the owner.
fn refused(service: &Service, client: Option<&Requester>, error: &SessionError) -> Problem {
    match error {
        SessionError::Denied {
            session,
            operation,
            decision,
        } => service.audit.record(&Event::SessionDenied {
            session: session.to_string(),
            operation: operation.to_string(),
            decision: decision.to_string(),
            by: client.map(|c| c.key.to_string()),
        }),
        SessionError::Store(_) | SessionError::Record(_) | SessionError::Random => {
            let mut causes = error.to_string();
            let mut next = std::error::Error::source(error);
            while let Some(cause) = next {
                causes.push_str(&format!(": {cause}"));
                next = cause.source();
            }
            tracing::error!(error = causes, "a request failed");
        }
        _ => {}
    }
    Problem::from(error)
}
