//! LoLLMs' core REST routes.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::app::status::Space;
use crate::wire::error::HttpError;
use crate::wire::rest::body::Body;

/// All settings, flat, under old and new names.
pub async fn get_config(State(app): State<App>) -> Json<Map<String, Value>> {
    Json(app.config_map())
}

/// Names of the installed models of the default binding.
///
/// # Errors
/// When the server fails while reading.
pub async fn list_models(State(app): State<App>) -> Result<Json<Vec<String>>, HttpError> {
    Ok(Json(app.list_installed_models().await?))
}

/// The default model and its index in `/list_models`, or null.
///
/// # Errors
/// When the server fails while reading.
pub async fn get_active_model(State(app): State<App>) -> Result<Json<Value>, HttpError> {
    let active = app.active_model().await?;
    // LoLLMs clients use the index as it is; a model from elsewhere is shown as the first.
    Ok(Json(active.map_or(
        Value::Null,
        |(model, index)| json!({"model": model, "index": index.unwrap_or_default()}),
    )))
}

/// Memory and disk; the spelling of the route is LoLLMs' own.
///
/// # Errors
/// When the server fails while reading.
pub async fn get_server_infos(State(app): State<App>) -> Result<Json<Value>, HttpError> {
    let info = app.server_info().await?;
    let mut disk = space(info.disk);
    disk["binding_models_usage"] = info.models.into();
    Ok(Json(json!({"ram": space(info.ram), "vram": {"nb_gpus": 0}, "disk": disk})))
}

fn space(space: Space) -> Value {
    let used = space.total.saturating_sub(space.available);
    let percent = used.saturating_mul(100).checked_div(space.total).unwrap_or_default();
    json!({
        "total_space": space.total,
        "available_space": space.available,
        "usage": used,
        "percent_usage": percent,
    })
}

/// Paths of the personalities that are mounted by default.
pub async fn list_mounted_personalities(State(app): State<App>) -> Json<Vec<String>> {
    Json(app.list_mounted_by_default())
}

/// Body of `/update_setting`.
#[derive(Debug, Deserialize)]
pub struct Setting {
    setting_name: String,
    #[serde(default)]
    setting_value: Value,
}

/// Answer of `/update_setting`.
#[derive(Debug, Serialize)]
pub struct SettingUpdated {
    setting_name: String,
    status: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Changes one of the few settings that clients may change.
pub async fn update_setting(
    State(app): State<App>,
    Body(setting): Body<Setting>,
) -> Json<SettingUpdated> {
    let updated = app.update_setting(&setting.setting_name, setting.setting_value).await;
    Json(SettingUpdated {
        setting_name: setting.setting_name,
        status: updated.is_ok(),
        error: updated.err().map(|failure| failure.message),
    })
}
