// SPDX-License-Identifier: Apache-2.0
//! Errors as problem documents (RFC 9457). Internals never leak; every denial names its rule.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::sessions::SessionError;

/// A problem document.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Problem {
    /// `urn:ensconce:problem:` and the name of the error.
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    /// Findings of a refused document, rendered for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<String>,
    dev: bool,
    freshness: &'static str,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        name: &str,
        title: &str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind: format!("urn:ensconce:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            findings: Vec::new(),
            dev: true,
            freshness: crate::service::FRESHNESS,
        }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "The request is not understood",
            detail,
        )
    }

    pub(super) fn no_route() -> Self {
        let detail = "This version serves /v1/sessions, /v1/version and /v1/attest";
        Self::new(
            StatusCode::NOT_FOUND,
            "no-such-resource",
            "No such resource",
            detail,
        )
    }

    pub(super) fn no_method() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let detail = "Sessions are read with GET and changed with POST; nothing is ever deleted";
        Self::new(status, "method-not-allowed", "Method not allowed", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, body).into_response()
    }
}

impl From<&SessionError> for Problem {
    fn from(error: &SessionError) -> Self {
        use SessionError as E;
        let detail = error.to_string();
        let (status, name, title) = match error {
            E::Invalid(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-session",
                "The session document is not valid",
            ),
            E::NotSupported { .. } => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "not-supported",
                "Not supported yet",
            ),
            E::Anonymous => (
                StatusCode::UNAUTHORIZED,
                "client-certificate-needed",
                "A client certificate is needed",
            ),
            E::Denied { .. } => (StatusCode::FORBIDDEN, "access-denied", "Access denied"),
            E::NotFound { .. } => (StatusCode::NOT_FOUND, "no-such-session", "No such session"),
            E::NoNamespace { .. } => (
                StatusCode::NOT_FOUND,
                "no-such-namespace",
                "No such namespace",
            ),
            E::Exists { .. } => (StatusCode::CONFLICT, "session-exists", "The session exists"),
            E::Predecessor { .. } | E::NoPredecessor { .. } => (
                StatusCode::CONFLICT,
                "predecessor-mismatch",
                "The predecessor is not the active version",
            ),
            E::ForeignCreator { .. } => {
                (StatusCode::FORBIDDEN, "foreign-creator", "Another creator")
            }
            E::Random | E::Record(_) | E::Store(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The CAS failed",
            ),
        };
        let mut problem = Self::new(status, name, title, detail);
        if let E::Invalid(refusal) = error {
            problem.findings = refusal.findings.iter().map(ToString::to_string).collect();
        }
        problem
    }
}
