//! Signing in at a real provider, as a browser does it.

use crate::cluster::{Cluster, PASSWORD};
use crate::http::{self, Answer};
use ::http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use testkit::IdentityProvider;

/// Steps of one sign-in: the provider asks who comes, and whether we may know.
const STEPS_MAX: usize = 20;

/// A browser that follows redirects, keeps cookies of both sites by path, and fills in forms.
#[derive(Default)]
struct Browser {
    /// By host, path and name.
    cookies: BTreeMap<(String, String, String), String>,
}

fn host(url: &str) -> String {
    url.split('/').nth(2).unwrap().to_owned()
}

fn path(url: &str) -> String {
    format!("/{}", url.splitn(4, '/').nth(3).unwrap_or_default()).split(['?', '#']).next().unwrap().to_owned()
}

impl Browser {
    async fn send(&mut self, method: Method, url: &str, form: &str) -> Answer {
        let (host, path) = (host(url), path(url));
        let ours = self.cookies.iter().filter(|((of, below, _), _)| *of == host && path.starts_with(below.as_str()));
        let cookie = ours.map(|((.., name), value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let mut headers = vec![("cookie", cookie.as_str())];
        if !form.is_empty() {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        let answer = http::send(http::request(method, url.split('#').next().unwrap(), &headers, form.to_owned())).await;
        for set in answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()) {
            let (pair, attributes) = set.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            let below = attributes.split(';').find_map(|a| a.trim().to_lowercase().strip_prefix("path=").map(str::len));
            let below = below.map_or("/".to_owned(), |length| {
                let at = attributes.to_lowercase().find("path=").unwrap() + 5;
                attributes[at..at + length].to_owned()
            });
            self.cookies.insert((host.clone(), below, name.to_owned()), value.to_owned());
        }
        answer
    }

    /// Goes to a page and on to where the browser is left: the last address.
    async fn sign_in(&mut self, begin: &str, who: &str) -> String {
        let (mut url, mut form) = (begin.to_owned(), String::new());
        for _ in 0..STEPS_MAX {
            let method = if form.is_empty() { Method::GET } else { Method::POST };
            let answer = self.send(method, &url, &form).await;
            form.clear();
            if let Some(to) = answer.headers.get("location").map(|to| to.to_str().unwrap().to_owned()) {
                url = if to.starts_with('/') { format!("http://{}{to}", host(&url)) } else { to };
                if url.contains("/#/") {
                    return url;
                }
                continue;
            }
            let page = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.status, 200, "{url}: {page}");
            let action = page.split("action=\"").nth(1).unwrap_or_else(|| panic!("{url}: {page}"));
            let action = action.split('"').next().unwrap().to_owned();
            url = if action.starts_with('/') { format!("http://{}{action}", host(&url)) } else { action };
            form = match page.contains("name=\"login\"") {
                true => format!("prompt=login&login={who}&password=x"),
                false => "prompt=consent".to_owned(),
            };
        }
        panic!("{who} never came back from {url}");
    }

    /// What our server says of whom this browser is signed in as.
    async fn who_am_i(&self, cluster: &Cluster) -> Value {
        let value = |name: &str| {
            let found = self.cookies.iter().find(|((of, _, known), _)| *of == host(&cluster.url("/")) && known == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let cookie = format!("orrery_session={}; orrery_csrf={}", value("orrery_session"), value("orrery_csrf"));
        let csrf = value("orrery_csrf");
        let headers = [("cookie", cookie.as_str()), ("x-csrf-token", &*csrf), ("content-type", "application/json")];
        let url = cluster.url("/orrery.v1.SignInService/WhoAmI");
        let answer = http::send(http::request(Method::POST, &url, &headers, "{}")).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.json()["user"].clone()
    }
}

/// A server at a port that the provider was told before, so that it sends people back there.
async fn world() -> Option<(Cluster, IdentityProvider)> {
    let port = testkit::ports::free().unwrap();
    let redirect = format!("http://127.0.0.1:{port}/auth/oidc/callback");
    let back = redirect.clone();
    let provider = tokio::task::spawn_blocking(move || IdentityProvider::start(&back)).await.unwrap()?;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("client.secret");
    std::fs::write(&secret, testkit::identity::CLIENT.1).unwrap();
    let cluster = Cluster::with(|settings| {
        settings.listen = format!("127.0.0.1:{port}").parse().unwrap();
        settings.oidc.issuer = Some(provider.issuer.clone());
        settings.oidc.client_id = Some(testkit::identity::CLIENT.0.to_owned());
        settings.oidc.client_secret_file = Some(secret);
        settings.oidc.redirect_url = Some(redirect);
        settings.oidc.name = "Example ID".to_owned();
        settings.oidc.email_domains = vec!["@Example.net".to_owned()];
    })
    .await;
    Some((cluster, provider))
}

#[tokio::test]
async fn people_come_back_from_a_provider_as_who_they_are() {
    let Some((cluster, _provider)) = world().await else { return };
    assert_eq!(cluster.get("/auth/options").await.json(), json!({ "elsewhere": "Example ID" }));
    let begin = cluster.url("/auth/oidc");
    let home = cluster.url("/#/runs");
    let refused = |reason: &str| cluster.url(&format!("/#/sign-in?refused={reason}"));
    cluster.workspace("sales").await;
    let invite = json!({ "workspace": "sales", "email": "Ada@Example.org" });
    // Whom nobody knows is not let in, and neither is who only says that an address is theirs.
    assert_eq!(Browser::default().sign_in(&begin, "ada@example.org").await, refused("NOT_INVITED"));
    cluster.call("MemberService/InviteMember", invite).await;
    let unverified = json!({ "workspace": "sales", "email": "unverified@example.org" });
    cluster.call("MemberService/InviteMember", unverified).await;
    assert_eq!(Browser::default().sign_in(&begin, "unverified@example.org").await, refused("ADDRESS_NOT_VERIFIED"));
    // An invitation is enough, and is taken up.
    let mut ada = Browser::default();
    assert_eq!(ada.sign_in(&begin, "ada@example.org").await, home);
    let me = ada.who_am_i(&cluster).await;
    assert_eq!(
        (&me["email"], &me["name"], &me["role"]),
        (&json!("ada@example.org"), &json!("ada"), &json!("ROLE_UNSPECIFIED"))
    );
    let members = cluster.call("MemberService/ListMembers", json!({ "workspace": "sales" })).await.to_string();
    assert!(members.contains(r#""email":"ada@example.org","invited":false"#), "{members}");
    // The same person again is the same account, by the provider's own name for them and not by the address.
    let change = "UPDATE user_account SET email = 'countess@example.org' WHERE email = 'ada@example.org'";
    cluster.database.client().await.execute(change, &[]).await.unwrap();
    let mut again = Browser::default();
    assert_eq!(again.sign_in(&begin, "ada@example.org").await, home);
    assert_eq!(again.who_am_i(&cluster).await["id"], me["id"]);
    // Somebody of a known domain needs no invitation; somebody who has a password keeps the account.
    let mut grace = Browser::default();
    assert_eq!(grace.sign_in(&begin, "grace@example.net").await, home);
    cluster.person("alan@example.org", "ROLE_EDITOR").await;
    let mut alan = Browser::default();
    assert_eq!(alan.sign_in(&begin, "alan@example.org").await, home);
    assert_eq!(alan.who_am_i(&cluster).await["role"], "ROLE_EDITOR");
    let password = json!({ "email": "alan@example.org", "password": PASSWORD });
    cluster.call_as("", "SignInService/SignIn", password).await;
    // An account that is tied to somebody else is nobody else's, and a disabled one nobody's.
    let tie = "UPDATE user_account SET oidc_subject = 'another' WHERE email = 'alan@example.org'";
    cluster.database.client().await.execute(tie, &[]).await.unwrap();
    assert_eq!(Browser::default().sign_in(&begin, "alan@example.org").await, refused("ACCOUNT_TAKEN"));
    // Until somebody unties it, which ends what was begun as the former.
    let tied = "SELECT count(*) FROM browser_session s JOIN user_account u ON u.id = s.user_id WHERE u.email = 'alan@example.org'";
    let of_sign_in = "INSERT INTO access_token (id, user_id, name, prefix, secret_hash, origin)
        SELECT gen_random_uuid(), id, 'laptop', 'orr_0123456789ab', sha256('x'), 'elsewhere' FROM user_account WHERE email = 'alan@example.org'";
    cluster.database.client().await.execute(of_sign_in, &[]).await.unwrap();
    cluster.call("UserService/UnlinkUser", json!({ "email": "alan@example.org" })).await;
    let open = "SELECT count(*) FROM access_token WHERE name = 'laptop' AND revoked_at IS NULL";
    assert_eq!(cluster.database.client().await.query_one(open, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(cluster.database.client().await.query_one(tied, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(Browser::default().sign_in(&begin, "alan@example.org").await, home);
    cluster.call("UserService/DisableUser", json!({ "email": "grace@example.net" })).await;
    assert_eq!(Browser::default().sign_in(&begin, "grace@example.net").await, refused("ACCOUNT_DISABLED"));
    let trail = cluster.call("AuditService/ListAuditEntries", json!({ "pageSize": 500 })).await.to_string();
    assert!(trail.contains("ACCOUNT_TAKEN") && trail.contains("ADDRESS_NOT_VERIFIED"));
}

#[tokio::test]
async fn nobody_ends_a_sign_in_that_somebody_else_began() {
    let Some((cluster, _provider)) = world().await else { return };
    let over = cluster.url("/#/sign-in?refused=SIGN_IN_OVER");
    let callback = |query: &str| cluster.url(&format!("/auth/oidc/callback?{query}"));
    let left_at = |answer: &Answer| cluster.url(answer.header("location"));
    let mut browser = Browser::default();
    let sent = browser.send(Method::GET, &cluster.url("/auth/oidc"), "").await;
    let away = sent.header("location").to_owned();
    for part in ["code_challenge_method=S256", "nonce=", "scope=openid", "response_type=code"] {
        assert!(away.contains(part), "{part} in {away}");
    }
    let state = away.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    // Without the cookie, with another state, and with one that was used.
    let mut stranger = Browser::default();
    let stolen = stranger.send(Method::GET, &callback(&format!("code=x&state={state}")), "").await;
    assert_eq!(left_at(&stolen), over);
    for query in ["", "code=x", "code=x&state=", "code=x&state=other"] {
        let mut other = Browser { cookies: browser.cookies.clone() };
        assert_eq!(left_at(&other.send(Method::GET, &callback(query), "").await), over, "{query}");
    }
    let mut twin = Browser { cookies: browser.cookies.clone() };
    let refused = cluster.url("/#/sign-in?refused=PROVIDER_REFUSED");
    let guessed = browser.send(Method::GET, &callback(&format!("code=guessed&state={state}")), "").await;
    assert_eq!(left_at(&guessed), refused);
    assert_eq!(left_at(&twin.send(Method::GET, &callback(&format!("code=x&state={state}")), "").await), over);
    // Nor without a provider.
    let plain = Cluster::new().await;
    assert_eq!(plain.get("/auth/options").await.json(), json!({ "elsewhere": null }));
    let nowhere = http::send(http::request(Method::GET, &plain.url("/auth/oidc"), &[], "")).await;
    assert_eq!(nowhere.header("location"), "/#/sign-in?refused=NO_PROVIDER");
}
