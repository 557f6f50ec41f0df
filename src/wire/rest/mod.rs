//! REST routes. Each handler reads, calls one function of `app`, answers.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};

use crate::app::App;
use crate::wire::error::HttpError;
use crate::wire::net::guard::MAX_BODY_BYTES;

pub mod body;
pub mod core;
pub mod health;

/// All routes.
pub fn routes(app: App) -> Router {
    let limit = usize::try_from(MAX_BODY_BYTES).unwrap_or(usize::MAX);
    Router::new()
        .route("/", get(health::welcome))
        .route("/healthz", get(health::healthz))
        .route("/get_config", get(core::get_config).post(core::get_config))
        .route("/list_models", get(core::list_models))
        .route("/get_active_model", get(core::get_active_model))
        .route("/get_server_ifos", get(core::get_server_infos))
        .route("/list_mounted_personalities", get(core::list_mounted_personalities))
        .route("/update_setting", post(core::update_setting))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(limit))
        .with_state(app)
}

async fn unknown() -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address")
}

async fn wrong_method() -> HttpError {
    let message = "this address takes another method";
    HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
