//! JSON bodies, with errors in the product's own shape.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::wire::error::HttpError;
use crate::wire::events::loose;

/// A body must be there within this time.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON body; LoLLMs clients do not always say that it is JSON, so its type is not asked for here.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, state: &S) -> Result<Self, HttpError> {
        let read = tokio::time::timeout(TIMEOUT, Bytes::from_request(request, state)).await;
        let late = |_| {
            let message =
                format!("the body did not come to its end within {} s", TIMEOUT.as_secs());
            HttpError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
        };
        let bytes = read.map_err(late)?.map_err(|error| unread(&error))?;
        let wrong =
            |message: String| HttpError::new(StatusCode::BAD_REQUEST, "invalid_request", message);
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("the body is no valid JSON: {error}")))?;
        loose::parse(value).map(Self).map_err(|error| wrong(error.to_string()))
    }
}

fn unread(error: &BytesRejection) -> HttpError {
    let code = match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        _ => "invalid_request",
    };
    HttpError::new(error.status(), code, error.body_text())
}
