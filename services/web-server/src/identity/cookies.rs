//! Cookies of browsers that are signed in. Refuses to know whose.

use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;

/// The secret of a session; no script reads it.
pub(crate) const SESSION: &str = "orrery_session";
/// The secret of a sign-in elsewhere that has begun.
pub(crate) const OIDC: &str = "orrery_sign_in";
/// The token against forged requests: the page reads it and sends it as [`CSRF_HEADER`].
pub(crate) const CSRF: &str = "orrery_csrf";
/// Shows that our page made the request: others cannot read the cookie.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// The value of a cookie of a request.
pub(crate) fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// A cookie to set. `strict` keeps it from every request that another site begins; `script` lets our page read it.
pub(crate) struct Cookie<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
    pub(crate) lifetime: Duration,
    pub(crate) strict: bool,
    pub(crate) script: bool,
    pub(crate) secure: bool,
}

impl Cookie<'_> {
    /// The header that sets it.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let site = if self.strict { "Strict" } else { "Lax" };
        let mut text =
            format!("{}={}; Path=/; Max-Age={}; SameSite={site}", self.name, self.value, self.lifetime.as_secs());
        if !self.script {
            text.push_str("; HttpOnly");
        }
        if self.secure {
            text.push_str("; Secure");
        }
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        headers
            .append(header::COOKIE, HeaderValue::from_static("x_orrery_session=a; orrery_session=b;orrery_csrf = c"));
        assert_eq!(get(&headers, SESSION), Some("b"));
        assert_eq!(get(&headers, "session"), None);
        let cookie = Cookie {
            name: SESSION,
            value: "v",
            lifetime: Duration::from_secs(9),
            strict: true,
            script: false,
            secure: true,
        };
        assert_eq!(cookie.header().unwrap(), "orrery_session=v; Path=/; Max-Age=9; SameSite=Strict; HttpOnly; Secure");
    }
}
