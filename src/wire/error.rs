//! Failures as HTTP answers.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::error::{ErrorCode, Failure};

/// Body of every HTTP error: `{"error":{"code","message","id"}}`.
#[derive(Debug, Serialize)]
pub struct ErrorBody {
    error: Inner,
}

#[derive(Debug, Serialize)]
struct Inner {
    code: &'static str,
    message: String,
    /// Finds the failure in the log.
    id: u64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An HTTP answer that says what went wrong.
#[derive(Debug)]
pub struct HttpError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl HttpError {
    /// An answer with this status; for what HTTP itself knows and the product does not.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl From<Failure> for HttpError {
    fn from(failure: Failure) -> Self {
        let status = StatusCode::from_u16(failure.code.status());
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: failure.code.as_str(),
            message: failure.message,
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let Self { status, code, message } = self;
        if status.is_server_error() {
            tracing::warn!(error.id = id, error.code = code, %message, "A request failed");
        } else {
            tracing::debug!(error.id = id, error.code = code, %message, "A request was refused");
        }
        (status, Json(ErrorBody { error: Inner { code, message, id } })).into_response()
    }
}

/// A panic in a handler, as an answer.
pub(super) fn panicked() -> HttpError {
    HttpError::from(Failure::new(ErrorCode::Internal, "the server failed while answering"))
}
