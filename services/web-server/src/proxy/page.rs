//! What people see instead of an application: that it starts, that it is stopped, that it is away. Refuses to hold
//! anything of the application.

use crate::fault::Fault;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::ErrorKind;
use serde_json::json;
use store::runtime_routes::Route;

/// Nothing from elsewhere; the one script is ours.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// A page that waits asks again after so many seconds.
const AGAIN_S: u32 = 2;
const STYLE: &str = ":root{color-scheme:light dark}\
                     body{font:16px system-ui;max-width:36rem;margin:15vh auto;padding:0 1rem;overflow-wrap:anywhere}\
                     small{opacity:.7}button{font:inherit;padding:.4rem 1.2rem}";

/// Whether somebody reads the answer.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// It does not run. `ours` says that the page is of this server's own origin, where it can be started.
pub(super) fn not_running(route: &Route, headers: &HeaderMap, ours: bool) -> Response {
    let waits = matches!(route.state.as_str(), "starting" | "stopping");
    if !wants_html(headers) {
        let body = json!({ "code": "RUNTIME_NOT_RUNNING", "state": route.state, "step": route.step,
                           "reason": route.reason, "message": route.message, "hint": route.hint });
        let retry = [
            (header::RETRY_AFTER, HeaderValue::from(AGAIN_S)),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, body.to_string()).into_response();
    }
    let name = escaped(&route.name);
    let title = match route.state.as_str() {
        "starting" => format!("{name} is starting"),
        "stopping" => format!("{name} is stopping"),
        "error" => format!("{name} could not run"),
        _ => format!("{name} is stopped"),
    };
    let lines = [&route.step, &route.reason, &route.message, &route.hint];
    let lines: String =
        lines.into_iter().filter(|line| !line.is_empty()).map(|line| format!("<p>{}</p>", escaped(line))).collect();
    let start = match ours && !waits && !route.archived {
        true => format!(
            "<p><button id=\"start\" data-workspace=\"{name}\">Start</button></p><script src=\"/ui/start.js\"></script>"
        ),
        false => String::new(),
    };
    page(StatusCode::SERVICE_UNAVAILABLE, &title, &format!("{lines}{start}"), waits)
}

/// It should run, and does not answer.
pub(super) fn away(route: &Route, html: bool) -> Response {
    if !html {
        let body = json!({ "code": "APP_UNREACHABLE", "message": "the application does not answer; try again soon" });
        return (StatusCode::BAD_GATEWAY, [(header::CONTENT_TYPE, "application/json")], body.to_string())
            .into_response();
    }
    let title = format!("{} does not answer", escaped(&route.name));
    page(StatusCode::BAD_GATEWAY, &title, "<p>It is asked again in a moment.</p>", true)
}

/// Nobody is let through.
pub(super) fn refused(fault: &Fault) -> Response {
    let status = match fault.0.kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let way_in = match status {
        StatusCode::UNAUTHORIZED => "<p><a href=\"/#/runtimes\">Sign in</a></p>",
        _ => "",
    };
    let why = format!("<p>{}</p>{way_in}", escaped(&fault.0.message));
    let mut response = page(status, "This cannot be opened", &why, false);
    if let Some(seconds) = fault.0.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn page(status: StatusCode, title: &str, body: &str, again: bool) -> Response {
    let refresh = if again { format!("<meta http-equiv=\"refresh\" content=\"{AGAIN_S}\">") } else { String::new() };
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>{refresh}\
         <style>{STYLE}</style></head><body><h1>{title}</h1>{body}<small>Orrery</small></body></html>"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, text).into_response()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
