//! Turns away requests that may not enter, before anything reads their bodies.
//!
//! The server trusts nobody for where a request comes from: a page in the user's browser reaches
//! loopback as well. So Host and Origin are checked on every request, `/socket.io/` included, and keys
//! wherever they are set.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN,
    VARY,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use crate::wire::error::{HttpError, panicked};
use crate::wire::net::conn::Conn;
use crate::wire::net::flow::Flows;
use crate::wire::net::keys::{Keys, Verdict, key_of};
use crate::wire::net::python_numbers::Patch;

/// Largest body of a REST request, in bytes.
pub const MAX_BODY_BYTES: u64 = 2 << 20;
/// Largest message on Socket.IO, on either transport, in bytes.
pub const MAX_MESSAGE_BYTES: u64 = 1_000_000;
/// A body of Socket.IO must be there within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// What browsers say about where a request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Longest path and query, in bytes.
const MAX_URI_BYTES: usize = 8 * 1024;

/// The Socket.IO layer answers every path that begins so.
const SOCKET_PATH: &str = "/socket.io";

/// Who may enter.
#[derive(Debug)]
pub struct Rules {
    /// Host names besides the loopback ones, with or without a port.
    pub allowed_hosts: Vec<String>,
    /// Origins besides our own; exact texts.
    pub allowed_origins: Vec<String>,
    /// The keys.
    pub keys: Arc<Keys>,
    /// The sessions of the Socket.IO layer.
    pub flows: Arc<Flows>,
}

/// Lets a request pass to the Socket.IO layer and the routes, or answers it.
pub async fn guard(State(rules): State<Arc<Rules>>, request: Request, next: Next) -> Response {
    let friend = rules.friend(request.headers());
    let mut answer = if is_preflight(&request) && friend.is_some() {
        StatusCode::NO_CONTENT.into_response()
    } else if let Err(refusal) = rules.check(&request) {
        refusal.into_response()
    } else {
        let conn = request.extensions().get::<Arc<Conn>>().cloned();
        let taken_over = taken_over(&request);
        let answer = AssertUnwindSafe(answer(request, next)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| panicked().into_response());
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            rules.note_websocket(conn, taken_over);
        }
        answer
    };
    if let Some(origin) = friend {
        allow(answer.headers_mut(), origin);
    }
    answer
}

/// Runs the layers within. Bodies of Socket.IO are read here, with their limits; REST bodies by their handlers.
async fn answer(request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !is_socket(request.uri()) {
        return next.run(request).await;
    }
    match read_packets(request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn read_packets(request: Request) -> Result<Request, HttpError> {
    let (parts, body) = request.into_parts();
    let most = usize::try_from(MAX_MESSAGE_BYTES).unwrap_or(usize::MAX);
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, most)).await;
    let late = |_| refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come to its end");
    let bytes = read.map_err(late)?.map_err(|_| too_large(MAX_MESSAGE_BYTES))?;
    let mut bytes = Vec::from(bytes);
    Patch::default().apply(&mut bytes);
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

fn too_large(limit: u64) -> HttpError {
    let message = format!("the body is larger than {limit} bytes");
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

/// The session that a WebSocket asks to take over.
fn taken_over(request: &Request<Body>) -> Option<String> {
    let (sid, transport) = session_of(request)?;
    (transport == "websocket").then(|| sid.to_owned())
}

/// Session and transport of a GET to the Socket.IO layer.
fn session_of(request: &Request<Body>) -> Option<(&str, &str)> {
    if !is_socket(request.uri()) || request.method() != Method::GET {
        return None;
    }
    let query = request.uri().query()?;
    let field = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name));
    Some((field("sid=")?, field("transport=")?))
}

/// Lets pages of an allowed origin read the answer. Cookies are never asked for.
fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    let names = HeaderValue::from_static("content-type, authorization, x-api-key");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
}

/// The question of a browser whether a page may send a request; it carries no key.
fn is_preflight(request: &Request<Body>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Rules {
    fn check(&self, request: &Request<Body>) -> Result<(), HttpError> {
        let conn = conn_of(request)?;
        if request.uri().path_and_query().is_some_and(|path| path.as_str().len() > MAX_URI_BYTES) {
            return Err(refuse(StatusCode::URI_TOO_LONG, "the address is longer than 8192 bytes"));
        }
        let headers = request.headers();
        self.check_host(request.uri(), headers, conn.local)?;
        self.check_origin(headers, conn.local)?;
        check_fetch_site(request)?;
        let socket = is_socket(request.uri());
        check_body(request, socket)?;
        // Socket.IO brings its key in the CONNECT packet, or here.
        if !socket {
            self.check_key(headers, &conn)?;
        }
        if let Some((sid, "polling")) = session_of(request) {
            self.flows.polled(sid);
        }
        Ok(())
    }

    /// A WebSocket was let in: from now on the session of that name is read there.
    fn note_websocket(&self, conn: Option<Arc<Conn>>, taken_over: Option<String>) {
        let Some(conn) = conn else { return };
        conn.becomes_websocket();
        if let Some(sid) = taken_over {
            self.flows.upgrade(&sid, &conn);
        }
    }

    /// Whether a name and port are this server's.
    fn is_ours(&self, host: &Authority, local: SocketAddr) -> bool {
        let name = host.host().to_ascii_lowercase();
        let allowed = |allowed: &String| {
            allowed.eq_ignore_ascii_case(&name) || allowed.eq_ignore_ascii_case(host.as_str())
        };
        let own_port = host.port_u16().unwrap_or(80) == local.port();
        self.allowed_hosts.iter().any(allowed) || (own_port && is_own(&name, local))
    }

    fn check_host(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        local: SocketAddr,
    ) -> Result<(), HttpError> {
        let bad = |message: &str| refuse(StatusCode::BAD_REQUEST, message);
        let host = single(headers, &HOST)?.ok_or_else(|| bad("the Host header is missing"))?;
        let host: Authority = host.parse().map_err(|_| bad("the Host header is malformed"))?;
        if host.as_str().contains('@') {
            return Err(bad("the Host header is malformed"));
        }
        if uri.authority().is_some_and(|asked| !asked.as_str().eq_ignore_ascii_case(host.as_str()))
        {
            return Err(bad("the address names another host than the Host header"));
        }
        if self.is_ours(&host, local) {
            return Ok(());
        }
        let message =
            format!("this server is not `{host}`; add the name to `allowed_hosts` if it is");
        Err(HttpError::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", message))
    }

    /// The origin of a request, if it is one of the allowed ones.
    fn friend(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let text = origin.to_str().ok()?;
        self.allowed_origins.iter().any(|allowed| allowed == text).then(|| origin.clone())
    }

    fn check_origin(&self, headers: &HeaderMap, local: SocketAddr) -> Result<(), HttpError> {
        let Some(origin) = single(headers, &ORIGIN)? else { return Ok(()) };
        let own = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
            .and_then(|rest| rest.parse::<Authority>().ok())
            .is_some_and(|origin| !origin.as_str().contains('@') && self.is_ours(&origin, local));
        if own || self.allowed_origins.iter().any(|allowed| allowed == origin) {
            return Ok(());
        }
        Err(refuse(
            StatusCode::FORBIDDEN,
            "pages of this origin may not use the server; see `allowed_origins`",
        ))
    }

    fn check_key(&self, headers: &HeaderMap, conn: &Conn) -> Result<(), HttpError> {
        match self.keys.judge(conn.peer.ip(), key_of(headers)) {
            Verdict::Pass => Ok(()),
            Verdict::Wrong => Err(HttpError::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "this server needs a key: `Authorization: Bearer KEY`",
            )),
            Verdict::TooMany => Err(HttpError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "too many wrong keys came from this address; wait a minute",
            )),
        }
    }
}

fn is_socket(uri: &Uri) -> bool {
    uri.path().starts_with(SOCKET_PATH)
}

fn conn_of(request: &Request<Body>) -> Result<Arc<Conn>, HttpError> {
    request.extensions().get::<Arc<Conn>>().cloned().ok_or_else(panicked)
}

/// Loopback names, and the very address that was connected to: a foreign page cannot make a name
/// resolve to it without sending that name.
fn is_own(name: &str, local: SocketAddr) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let literal = bare.parse::<std::net::IpAddr>().ok().map(|ip| ip.to_canonical());
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
        || literal == Some(local.ip().to_canonical())
}

/// A header that may come once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, HttpError> {
    let bad = |what: &str| refuse(StatusCode::BAD_REQUEST, &format!("the {name} header {what}"));
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad("comes more than once"));
    }
    value.to_str().map(Some).map_err(|_| bad("is not plain text"))
}

/// Browsers say where a request comes from; old LoLLMs routes change state by GET, so this matters.
fn check_fetch_site(request: &Request<Body>) -> Result<(), HttpError> {
    let site = single(request.headers(), &SEC_FETCH_SITE)?;
    if !matches!(site, Some("cross-site" | "same-site")) {
        return Ok(());
    }
    let mode = request.headers().get("sec-fetch-mode").and_then(|mode| mode.to_str().ok());
    let follows_link =
        request.uri().path() == "/" && request.method() == Method::GET && mode == Some("navigate");
    if follows_link || single(request.headers(), &ORIGIN)?.is_some() {
        // A request with an Origin was judged by it.
        return Ok(());
    }
    Err(refuse(StatusCode::FORBIDDEN, "pages of other sites may not use the server"))
}

fn check_body(request: &Request<Body>, socket: bool) -> Result<(), HttpError> {
    let headers = request.headers();
    if headers.contains_key(CONTENT_ENCODING) {
        let message = "bodies must come without Content-Encoding";
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let limit = if socket { MAX_MESSAGE_BYTES } else { MAX_BODY_BYTES };
    let length = single(headers, &CONTENT_LENGTH)?.and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    if !socket && request.method() == Method::POST {
        check_type(headers)?;
    }
    Ok(())
}

/// Forms and plain text are what a foreign page can send without being asked; from a browser they are refused.
fn check_type(headers: &HeaderMap) -> Result<(), HttpError> {
    let Some(found) = single(headers, &CONTENT_TYPE)? else { return Ok(()) };
    let essence = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let simple = matches!(
        essence.as_str(),
        "text/plain" | "application/x-www-form-urlencoded" | "multipart/form-data"
    );
    let site = single(headers, &SEC_FETCH_SITE)?;
    let from_page =
        headers.contains_key(ORIGIN) || !matches!(site, None | Some("none" | "same-origin"));
    if simple && from_page {
        let message =
            format!("`{essence}` is not accepted from pages; expected `application/json`");
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message));
    }
    Ok(())
}

fn refuse(status: StatusCode, message: &str) -> HttpError {
    let code = match status {
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        _ => "invalid_request",
    };
    HttpError::new(status, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(headers: &[(&'static str, &str)]) -> u16 {
        let rules = Rules {
            allowed_hosts: vec!["chat.example".into()],
            allowed_origins: vec!["http://friend.example".into()],
            keys: Arc::default(),
            flows: Arc::default(),
        };
        let local: SocketAddr = "127.0.0.1:9600".parse().unwrap();
        let mut request =
            Request::builder().method("POST").uri("/get_config").body(Body::empty()).unwrap();
        request.extensions_mut().insert(Conn::new(local, local));
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        rules.check(&request).map_or_else(|error| error.into_response().status().as_u16(), |()| 200)
    }

    #[test]
    fn only_our_own_hosts_are_served() {
        for host in [
            "localhost:9600",
            "127.0.0.1:9600",
            "[::1]:9600",
            "LOCALHOST:9600",
            "chat.example",
            "chat.example:80",
        ] {
            assert_eq!(status(&[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example:9600",
            "localhost",
            "localhost:9601",
            "127.0.0.2:9600",
            "localhost.evil.example:9600",
        ] {
            assert_eq!(status(&[("host", host)]), 421, "{host}");
        }
        assert_eq!(status(&[]), 400);
        assert_eq!(status(&[("host", "localhost:9600"), ("host", "localhost:9600")]), 400);
        assert_eq!(status(&[("host", "a b")]), 400);
        assert_eq!(status(&[("host", "x@localhost:9600")]), 400);
    }

    #[test]
    fn only_our_own_pages_are_served() {
        let with = |origin| status(&[("host", "localhost:9600"), ("origin", origin)]);
        assert_eq!(with("http://localhost:9600"), 200);
        assert_eq!(with("https://localhost:9600"), 200);
        assert_eq!(with("http://friend.example"), 200);
        for origin in [
            "null",
            "http://localhost:9601",
            "http://evil.example",
            "http://friend.example.evil",
            "",
        ] {
            assert_eq!(with(origin), 403, "{origin}");
        }
        let site = |site| status(&[("host", "localhost:9600"), ("sec-fetch-site", site)]);
        assert_eq!(site("cross-site"), 403);
        assert_eq!(site("same-site"), 403);
        assert_eq!(site("same-origin"), 200);
        assert_eq!(site("none"), 200);
    }

    #[test]
    fn bodies_are_limited_and_forms_of_pages_refused() {
        let host = ("host", "localhost:9600");
        assert_eq!(status(&[host, ("content-length", "2097153")]), 413);
        assert_eq!(status(&[host, ("content-encoding", "gzip")]), 415);
        assert_eq!(status(&[host, ("content-type", "text/plain")]), 200);
        let origin = ("origin", "http://localhost:9600");
        assert_eq!(status(&[host, origin, ("content-type", "text/plain")]), 415);
        assert_eq!(status(&[host, origin, ("content-type", "application/json")]), 200);
    }
}
