//! Which headers pass, in both directions. Pure; refuses to know where anything goes.

use super::Way;
use crate::identity::cookies;
use domain::runtime::App;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::net::IpAddr;

/// About one connection, so not about the next one.
const HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What only a proxy may say, or is shown to us and nobody else.
const OURS: [&str; 6] = ["forwarded", "x-real-ip", "authorization", "x-csrf-token", "expect", "orrery-notification"];
/// Likewise, by their beginning.
const OUR_PREFIXES: [&str; 5] = ["x-forwarded-", "x-remote-", "x-auth-", "x-orrery-", "proxy-"];
/// Cookies that no application sees or sets, by their beginning: ours, and the one by which the editor is opened.
const OUR_COOKIES: [&str; 4] = ["orrery_", "__Host-orrery", "__Secure-orrery", EDITOR_COOKIE];
/// What an answer says for its whole origin. On a path that is ours, and no application's: one could have browsers come
/// elsewhere, or tell elsewhere which of our addresses people ask for.
const OF_ORIGINS: [&str; 7] = [
    "service-worker-allowed",
    "clear-site-data",
    "strict-transport-security",
    "alt-svc",
    "nel",
    "report-to",
    "accept-ch",
];
/// By it code-server knows who may come.
const EDITOR_COOKIE: &str = "code-server-session";

/// Whether a request wants its connection to become something else.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE) && named(headers).any(|name| name == "upgrade")
}

fn named(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    let all = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase())
}

fn passes(name: &HeaderName, connection: &[String]) -> bool {
    let name = name.as_str();
    !HOP.contains(&name) && !connection.iter().any(|named| named == name)
}

/// How somebody came.
#[derive(Clone, Copy)]
pub(super) struct Visit<'a> {
    /// The other end of the connection: of a balancer before this server, its own.
    pub(super) peer: Option<IpAddr>,
    /// The name under which people come.
    pub(super) host: &'a str,
    pub(super) scheme: &'a str,
    /// Where the application is for them; ends with a slash.
    pub(super) base: &'a str,
}

/// The headers of a request as the application gets them.
pub(super) fn towards(headers: &HeaderMap, visit: Visit<'_>, opens: (Option<&App>, &str)) -> HeaderMap {
    let Visit { peer, host, scheme, base } = visit;
    let connection: Vec<String> = named(headers).collect();
    let ours = |name: &str| OURS.contains(&name) || OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let mut out = HeaderMap::new();
    for (name, value) in headers {
        if passes(name, &connection) && !ours(name.as_str()) && name != header::COOKIE && name != header::HOST {
            out.append(name.clone(), value.clone());
        }
    }
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let theirs = all.flat_map(|value| value.split(';')).map(str::trim);
    let theirs = theirs.filter(|pair| !pair.is_empty() && !OUR_COOKIES.iter().any(|ours| pair.starts_with(ours)));
    let mut kept: Vec<String> = theirs.map(str::to_owned).collect();
    let (app, key) = opens;
    let authorization = match app {
        Some(App::Jupyter) => Some(format!("token {key}")),
        Some(App::VsCode) => {
            kept.push(format!("{EDITOR_COOKIE}={key}"));
            None
        }
        Some(App::Custom { .. }) | None => Some(format!("Bearer {key}")),
    };
    let mut set = |name: HeaderName, value: String| {
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(name == header::AUTHORIZATION || name == header::COOKIE);
            out.insert(name, value);
        }
    };
    if !kept.is_empty() {
        set(header::COOKIE, kept.join("; "));
    }
    if let Some(value) = authorization {
        set(header::AUTHORIZATION, value);
    }
    set(header::HOST, host.to_owned());
    if let Some(peer) = peer {
        set(HeaderName::from_static("x-forwarded-for"), peer.to_canonical().to_string());
    }
    set(HeaderName::from_static("x-forwarded-host"), host.to_owned());
    set(HeaderName::from_static("x-forwarded-proto"), scheme.to_owned());
    set(HeaderName::from_static("x-forwarded-prefix"), base.trim_end_matches('/').to_owned());
    if is_upgrade(headers) {
        set(header::CONNECTION, "Upgrade".to_owned());
        if let Some(value) = headers.get(header::UPGRADE) {
            out.insert(header::UPGRADE, value.clone());
        }
    }
    out
}

/// How addresses of an application become ours.
pub(super) struct Addresses<'a> {
    /// Under which people come.
    pub(super) host: &'a str,
    /// Where the application is.
    pub(super) endpoint: &'a str,
    /// Where it is for people; begins and ends with a slash.
    pub(super) base: &'a str,
    /// It believes to be at its root.
    pub(super) stripped: bool,
    /// How people come.
    pub(super) way: Way,
}

/// The headers of an answer as people get them.
pub(super) fn back(headers: &HeaderMap, at: &Addresses<'_>) -> HeaderMap {
    let connection: Vec<String> = named(headers).collect();
    let mut out = HeaderMap::new();
    for (name, value) in headers {
        let too_wide = at.way == Way::Path && OF_ORIGINS.contains(&name.as_str());
        if !passes(name, &connection) || too_wide || name.as_str().starts_with("x-orrery-") {
            continue;
        }
        let value = match (name, value.to_str()) {
            (&header::LOCATION, Ok(text)) => HeaderValue::try_from(location(text, at)).ok(),
            (&header::SET_COOKIE, text) => text.ok().and_then(|text| cookie(text, at)),
            _ => Some(value.clone()),
        };
        if let Some(value) = value {
            out.append(name.clone(), value);
        }
    }
    if !out.contains_key(header::CONTENT_SECURITY_POLICY) {
        out.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'self'"));
    }
    out
}

/// An address of the application itself becomes a path of ours; any other is not touched.
fn location(text: &str, at: &Addresses<'_>) -> String {
    let path = match text.split_once("://") {
        Some((_, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !authority.eq_ignore_ascii_case(at.host) && authority != at.endpoint {
                return text.to_owned();
            }
            if path.is_empty() { "/" } else { path }
        }
        None => text,
    };
    let rooted = path.starts_with('/') && !path.starts_with("//");
    if rooted && at.stripped && !path.starts_with(at.base) {
        return format!("{}{}", at.base, &path[1..]);
    }
    path.to_owned()
}

/// A cookie stays with its workspace: without a domain, and on a path below it where the origin is shared.
fn cookie(text: &str, at: &Addresses<'_>) -> Option<HeaderValue> {
    let mut parts = text.split(';').map(str::trim);
    let pair = parts.next()?;
    // Of a cookie without a name browsers send only the value, which may look like one of ours.
    let nameless = pair.split_once('=').is_none_or(|(name, _)| name.trim().is_empty());
    if nameless || OUR_COOKIES.iter().any(|ours| pair.starts_with(ours)) || pair.starts_with(cookies::CSRF) {
        return None;
    }
    let mut kept = vec![pair.to_owned()];
    let mut below = false;
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.to_ascii_lowercase().as_str() {
            "domain" => {}
            "path" if at.way == Way::Path && !value.starts_with(at.base) => {}
            "path" => {
                below = true;
                kept.push(part.to_owned());
            }
            _ => kept.push(part.to_owned()),
        }
    }
    if !below && at.way == Way::Path {
        kept.push(format!("Path={}", at.base));
    }
    HeaderValue::try_from(kept.join("; ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn an_application_sees_its_own_and_nothing_of_ours() {
        let sent = map(&[
            ("host", "orrery.example"),
            ("cookie", "orrery_session=secret; _xsrf=1; orrery_csrf=x"),
            ("cookie", "__Host-orrery_runtime=t; code-server-session=guess; mine=2"),
            ("authorization", "Bearer orrery_token"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "host=evil"),
            ("x-real-ip", "6.6.6.6"),
            ("x-remote-user", "root"),
            ("x-auth-request-user", "root"),
            ("connection", "close, X-Secret-Hop"),
            ("x-secret-hop", "1"),
            ("te", "trailers"),
            ("accept", "text/html"),
        ]);
        let came = |host, base| Visit { peer: "::ffff:192.0.2.7".parse().ok(), host, scheme: "http", base };
        let got = towards(&sent, came("orrery.example", "/runtimes/lab/"), (Some(&App::Jupyter), "key"));
        let mut names: Vec<_> = got.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "accept",
            "authorization",
            "cookie",
            "host",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-prefix",
            "x-forwarded-proto",
        ];
        assert_eq!(names, expected);
        assert_eq!(got["cookie"], "_xsrf=1; mine=2");
        assert_eq!(got["authorization"], "token key");
        assert_eq!(got["x-forwarded-for"], "192.0.2.7");
        assert_eq!(got["x-forwarded-host"], "orrery.example");
        assert_eq!(got["x-forwarded-prefix"], "/runtimes/lab");
        let editor = towards(&sent, came("h", "/b/"), (Some(&App::VsCode), "key"));
        assert_eq!(editor["cookie"], "_xsrf=1; mine=2; code-server-session=key");
        assert!(!editor.contains_key("authorization"));
        let upgrade = map(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "k"),
            ("sec-websocket-protocol", "v1.kernel.websocket.jupyter.org"),
        ]);
        let got = towards(&upgrade, came("h", "/b/"), (None, "key"));
        assert!(got["upgrade"] == "websocket" && got["connection"] == "Upgrade" && got["sec-websocket-key"] == "k");
        assert_eq!(got["sec-websocket-protocol"], "v1.kernel.websocket.jupyter.org");
    }

    #[test]
    fn an_answer_speaks_for_its_workspace_only() {
        let at = |way, stripped| Addresses {
            host: "orrery.example",
            endpoint: "127.0.0.1:9",
            base: "/runtimes/lab/",
            stripped,
            way,
        };
        for (from, stripped, to) in [
            ("/login", true, "/runtimes/lab/login"),
            ("/runtimes/lab/lab", false, "/runtimes/lab/lab"),
            ("http://127.0.0.1:9/x", true, "/runtimes/lab/x"),
            ("http://orrery.example/runtimes/lab/x", false, "/runtimes/lab/x"),
            ("./x", true, "./x"),
            ("https://elsewhere.example/x", true, "https://elsewhere.example/x"),
        ] {
            assert_eq!(location(from, &at(Way::Path, stripped)), to, "{from}");
        }
        let answered = map(&[
            ("set-cookie", "a=1; Domain=example; Path=/; HttpOnly"),
            ("set-cookie", "orrery_session=stolen; Path=/"),
            ("set-cookie", "b=2; Path=/runtimes/lab/x"),
            ("set-cookie", "=orrery_session=nameless"),
            ("set-cookie", "orrery_session"),
            ("service-worker-allowed", "/"),
            ("sec-websocket-protocol", "v1.kernel.websocket.jupyter.org"),
            ("nel", r#"{"report_to":"mine","max_age":9,"success_fraction":1}"#),
            ("report-to", r#"{"group":"mine","max_age":9,"endpoints":[{"url":"https://evil.example"}]}"#),
            ("alt-svc", r#"h3="evil.example:443""#),
            ("connection", "close"),
        ]);
        let got = back(&answered, &at(Way::Path, false));
        let cookies: Vec<_> = got.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1; HttpOnly; Path=/runtimes/lab/", "b=2; Path=/runtimes/lab/x"]);
        for none in ["service-worker-allowed", "nel", "report-to", "alt-svc", "connection"] {
            assert!(!got.contains_key(none), "{none}");
        }
        assert_eq!(got["sec-websocket-protocol"], "v1.kernel.websocket.jupyter.org");
        let own = back(&answered, &at(Way::Origin, false));
        assert_eq!(own.get_all("set-cookie").iter().next().unwrap(), "a=1; Path=/; HttpOnly");
        assert!(own.contains_key("service-worker-allowed") && own.contains_key("nel"));
        assert_eq!(own.get_all("set-cookie").iter().count(), 2);
    }
}
