//! People: how they sign in, what they may grant, and what they leave behind.

use crate::cluster::{Cluster, PASSWORD, TOKEN, reason};
use crate::http::{self, Answer};
use ::http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::wait_for;

#[tokio::test]
async fn the_first_owner_changes_a_password_of_one_use() {
    let cluster = Cluster::new().await;
    let once = cluster.owner_password();
    let sign_in =
        |password: &str, new: &str| json!({ "email": "Owner@Localhost", "password": password, "newPassword": new });
    let refused = async |message: Value| cluster.refused_as("", "SignInService/SignIn", message).await;
    assert_eq!(refused(sign_in("wrong password", "")).await, "UNAUTHENTICATED");
    assert_eq!(refused(sign_in(&once, "")).await, "NEW_PASSWORD_NEEDED");
    assert_eq!(refused(sign_in(&once, "short")).await, "INVALID_FIELD");
    assert_eq!(refused(sign_in(&once, &once)).await, "INVALID_FIELD");
    let token = cluster.call_as("", "SignInService/SignIn", sign_in(&once, PASSWORD)).await["token"].clone();
    assert_eq!(refused(sign_in(&once, PASSWORD)).await, "UNAUTHENTICATED");
    let me = cluster.call_as(token.as_str().unwrap(), "SignInService/WhoAmI", json!({})).await;
    assert_eq!((&me["user"]["role"], &me["personalProject"]), (&json!("ROLE_OWNER"), &json!("owner")));
    let operator = cluster.call("SignInService/WhoAmI", json!({})).await;
    assert_eq!((&operator["user"]["id"], &operator["via"]), (&me["user"]["id"], &json!("operator")));
}

#[tokio::test]
async fn guessing_a_password_ends_soon() {
    let cluster = Cluster::new().await;
    let attempt = json!({ "email": "owner@localhost", "password": "x".repeat(300) });
    for _ in 0..10 {
        assert_eq!(cluster.refused_as("", "SignInService/SignIn", attempt.clone()).await, "UNAUTHENTICATED");
    }
    let refused = cluster.post_as("", "SignInService/SignIn", attempt).await;
    assert_eq!((refused.status.as_u16(), reason(&refused).as_str()), (429, "TOO_MANY_SIGN_INS"));
    let wait: u32 = refused.header("retry-after").parse().unwrap();
    assert!((240..=300).contains(&wait), "the rest of five minutes: {wait}");
    assert_eq!(refused.json()["details"][1]["type"], "google.rpc.RetryInfo");
}

#[tokio::test]
async fn a_try_that_nobody_could_answer_is_no_guess() {
    let cluster = Cluster::new().await;
    let email = "ada@example.org";
    cluster.person(email, "ROLE_UNSPECIFIED").await;
    let sign_in = json!({ "email": email, "password": PASSWORD });
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE user_account RENAME COLUMN {from} TO {to}");
        cluster.database.client().await.batch_execute(&sql).await.unwrap();
    };
    rename("password_hash", "gone").await;
    for _ in 0..12 {
        let refused = cluster.refused_as("", "SignInService/SignIn", sign_in.clone()).await;
        assert!(!["UNAUTHENTICATED", "TOO_MANY_SIGN_INS"].contains(&refused.as_str()), "{refused}");
    }
    rename("gone", "password_hash").await;
    cluster.call_as("", "SignInService/SignIn", sign_in).await;
}

#[tokio::test]
async fn tokens_are_shown_once_and_end_at_once() {
    let cluster = Cluster::new().await;
    let ada = cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await;
    let made = cluster.call_as(&ada, "TokenService/CreateToken", json!({ "name": "ci", "lifetime": "3600s" })).await;
    let token = made["token"].as_str().unwrap().to_owned();
    let prefix = made["accessToken"]["prefix"].as_str().unwrap();
    assert!(token.starts_with(prefix) && token.len() > prefix.len() + 64);
    cluster.call_as(&token, "SignInService/WhoAmI", json!({})).await;
    for at in [0, 5, prefix.len() + 1, token.len() - 1] {
        let mut off = token.clone().into_bytes();
        off[at] = if off[at] == b'0' { b'1' } else { b'0' };
        let off = String::from_utf8(off).unwrap();
        assert_eq!(cluster.refused_as(&off, "SignInService/WhoAmI", json!({})).await, "UNAUTHENTICATED", "{at}");
    }
    let listed = cluster.call_as(&ada, "TokenService/ListTokens", json!({})).await.to_string();
    assert!(listed.contains(prefix) && !listed.contains(&token[prefix.len() + 1..]));
    // Somebody else's token is not there to be revoked.
    let eve = cluster.person("eve@example.org", "ROLE_UNSPECIFIED").await;
    assert_eq!(
        cluster.refused_as(&eve, "TokenService/RevokeToken", json!({ "token": prefix })).await,
        "TOKEN_NOT_FOUND"
    );
    cluster.call_as(&ada, "TokenService/RevokeToken", json!({ "token": prefix })).await;
    assert_eq!(cluster.refused_as(&token, "SignInService/WhoAmI", json!({})).await, "UNAUTHENTICATED");
    // Disabled, a person has no token left, and enabled again neither.
    cluster.call("UserService/DisableUser", json!({ "email": "ada@example.org" })).await;
    cluster.call("UserService/EnableUser", json!({ "email": "ada@example.org" })).await;
    assert_eq!(cluster.refused_as(&ada, "SignInService/WhoAmI", json!({})).await, "UNAUTHENTICATED");
    for lifetime in ["0s", "-5s", "999999999s"] {
        let message = json!({ "name": "x", "lifetime": lifetime });
        assert_eq!(cluster.refused_as(&eve, "TokenService/CreateToken", message).await, "INVALID_FIELD", "{lifetime}");
    }
}

#[tokio::test]
async fn a_repeated_request_has_the_same_answer_without_its_secret() {
    let cluster = Cluster::new().await;
    let twice = async |method: &str, message: Value| {
        [cluster.call(method, message.clone()).await, cluster.call(method, message).await]
    };
    let of = |answer: &Value, field: &str| answer[field].clone();
    let user = json!({ "email": "ada@example.org", "role": "ROLE_EDITOR", "idempotencyKey": "k" });
    let [first, again] = twice("UserService/CreateUser", user.clone()).await;
    assert_eq!((of(&first, "user"), of(&again, "oneTimePassword")), (of(&again, "user"), json!("")));
    assert!(!first["oneTimePassword"].as_str().unwrap().is_empty());
    let mut other = user;
    other["role"] = json!("ROLE_VIEWER");
    assert_eq!(cluster.refused("UserService/CreateUser", other).await.1, "IDEMPOTENCY_KEY_REUSED");

    let token = json!({ "name": "ci", "idempotencyKey": "k" });
    let [first, again] = twice("TokenService/CreateToken", token).await;
    assert_eq!((of(&first, "accessToken"), of(&again, "token")), (of(&again, "accessToken"), json!("")));
    cluster.call_as(first["token"].as_str().unwrap(), "SignInService/WhoAmI", json!({})).await;
    let listed = cluster.call("TokenService/ListTokens", json!({})).await;
    assert_eq!(listed["tokens"].as_array().unwrap().iter().filter(|token| token["name"] == "ci").count(), 1);
    // What is kept of the answers holds no secret.
    let rows = cluster.database.client().await.query("SELECT response FROM idempotency", &[]).await.unwrap();
    let kept: Vec<u8> = rows.iter().flat_map(|row| row.get::<_, Vec<u8>>(0)).collect();
    let secret = first["token"].as_str().unwrap().rsplit('_').next().unwrap().as_bytes().to_vec();
    assert!(rows.len() == 2 && !kept.windows(secret.len()).any(|window| window == secret));

    for (method, message) in [
        ("GroupService/CreateGroup", json!({ "name": "lab", "idempotencyKey": "k" })),
        ("ProjectService/CreateProject", json!({ "name": "acme", "idempotencyKey": "k" })),
    ] {
        let [first, again] = twice(method, message.clone()).await;
        assert_eq!(first, again, "{method}");
        let mut fresh = message;
        fresh["idempotencyKey"] = json!("other");
        assert!(cluster.refused(method, fresh).await.1.ends_with("_EXISTS"), "{method}");
    }
}

#[tokio::test]
async fn a_program_is_let_in_with_a_token_that_only_it_has_seen() {
    let cluster = Cluster::new().await;
    let ada = cluster.person("ada@example.org", "ROLE_EDITOR").await;
    let fresh = rpc::personal_token::generate();
    assert_eq!(cluster.refused_as(&fresh.text, "SignInService/WhoAmI", json!({})).await, "UNAUTHENTICATED");
    let made = |prefix: &str, hash: &str| json!({ "name": "orrery on laptop", "made": { "prefix": prefix, "secretSha256": hash } });
    let hash = rpc::personal_token::hex(&fresh.secret_hash);
    let let_in = made(&fresh.prefix, &hash);
    let answer = cluster.call_as(&ada, "TokenService/CreateToken", let_in.clone()).await;
    assert_eq!((&answer["token"], &answer["accessToken"]["prefix"]), (&json!(""), &json!(fresh.prefix)));
    let me = cluster.call_as(&fresh.text, "SignInService/WhoAmI", json!({})).await;
    assert_eq!((&me["user"]["email"], &me["user"]["role"]), (&json!("ada@example.org"), &json!("ROLE_EDITOR")));
    // Nobody takes over what begins alike, not even with the same secret.
    let eve = cluster.person("eve@example.org", "ROLE_UNSPECIFIED").await;
    assert_eq!(cluster.refused_as(&eve, "TokenService/CreateToken", let_in).await, "TOKEN_TAKEN");
    for (prefix, hash) in [("orr_0", &*hash), ("", &hash), ("orr_0123456789ab", ""), ("orr_0123456789ab", &hash[1..])] {
        let refused = cluster.refused_as(&eve, "TokenService/CreateToken", made(prefix, hash)).await;
        assert_eq!(refused, "INVALID_FIELD", "{prefix} and {hash}");
    }
    // Signing out ends it.
    cluster.call_as(&fresh.text, "SignInService/SignOut", json!({})).await;
    assert_eq!(cluster.refused_as(&fresh.text, "SignInService/WhoAmI", json!({})).await, "UNAUTHENTICATED");
}

#[tokio::test]
async fn nobody_grants_more_than_they_have_and_an_owner_stays() {
    let cluster = Cluster::new().await;
    let admin = cluster.person("admin@example.org", "ROLE_ADMIN").await;
    let owner = json!({ "email": "owner@localhost" });
    let grant = |email: &str, role: &str| json!({ "email": email, "role": role });
    let refused = async |token: &str, method: &str, message: Value| cluster.refused_as(token, method, message).await;
    assert_eq!(refused(&admin, "UserService/CreateUser", grant("x@y.z", "ROLE_OWNER")).await, "ROLE_TOO_HIGH");
    assert_eq!(
        refused(&admin, "UserService/SetUserRole", grant("admin@example.org", "ROLE_OWNER")).await,
        "ROLE_TOO_HIGH"
    );
    assert_eq!(refused(&admin, "UserService/ResetPassword", owner.clone()).await, "ROLE_TOO_HIGH");
    assert_eq!(refused(&admin, "UserService/DisableUser", owner.clone()).await, "ROLE_TOO_HIGH");
    assert_eq!(refused(TOKEN, "UserService/DisableUser", owner).await, "LAST_OWNER");
    assert_eq!(refused(TOKEN, "UserService/SetUserRole", grant("owner@localhost", "ROLE_ADMIN")).await, "LAST_OWNER");
    cluster.call("UserService/SetUserRole", grant("admin@example.org", "ROLE_OWNER")).await;
    cluster.call("UserService/SetUserRole", grant("owner@localhost", "ROLE_UNSPECIFIED")).await;
}

/// The value of a cookie that an answer sets, and its attributes.
fn cookie(answer: &Answer, name: &str) -> (String, String) {
    let all = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let found = all.filter_map(|text| text.strip_prefix(name)?.strip_prefix('=')?.split_once(';')).next().unwrap();
    (found.0.to_owned(), found.1.to_owned())
}

#[tokio::test]
async fn a_browser_shows_two_cookies() {
    let cluster = Cluster::new().await;
    cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await;
    let send = async |path: &str, headers: &[(&str, &str)], body: Value| {
        http::send(http::request(Method::POST, &cluster.url(path), headers, body.to_string())).await
    };
    let json = ("content-type", "application/json");
    let form = json!({ "email": "ada@example.org", "password": PASSWORD });
    assert_ne!(send("/auth/session", &[("content-type", "text/plain")], form.clone()).await.status, 204);
    let foreign = send("/auth/session", &[json, ("origin", "https://evil.example")], form.clone()).await;
    assert_eq!(foreign.status, 403);
    let signed_in = send("/auth/session", &[json], form).await;
    assert_eq!(signed_in.status, 204, "{:?}", signed_in.body);
    let (session, attributes) = cookie(&signed_in, "orrery_session");
    assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Strict"), "{attributes}");
    let (csrf, _) = cookie(&signed_in, "orrery_csrf");
    let both = format!("orrery_session={session}; orrery_csrf={csrf}");
    let me = "/orrery.v1.SignInService/WhoAmI";
    // The cookies alone are what another page could make a browser send.
    let forged = send(me, &[json, ("cookie", &both)], json!({})).await;
    assert_eq!((forged.status.as_u16(), reason(&forged).as_str()), (403, "FORGED_REQUEST"));
    let wrong = send(me, &[json, ("cookie", &both), ("x-csrf-token", &session)], json!({})).await;
    assert_eq!(wrong.status, 403);
    let own = [json, ("cookie", both.as_str()), ("x-csrf-token", csrf.as_str())];
    assert_eq!(send(me, &own, json!({})).await.json()["via"], "session");
    let list = http::request(Method::GET, &cluster.url("/api/v1/workspaces"), &[("cookie", &both)], "");
    assert_eq!(http::send(list).await.status, 200);
    assert_eq!(send("/orrery.v1.SignInService/SignOut", &own, json!({})).await.status, 200);
    assert_eq!(send(me, &own, json!({})).await.status, 401);
}

#[tokio::test]
async fn the_trail_tells_of_acts_and_refusals_and_never_changes() {
    let cluster = Cluster::new().await;
    let eve = cluster.person("eve@example.org", "ROLE_UNSPECIFIED").await;
    cluster.workspace("sales").await;
    cluster.refused_as(&eve, "WorkspaceService/ArchiveWorkspace", json!({ "name": "sales" })).await;
    cluster.refused_as(&eve, "WorkspaceService/CreateWorkspace", json!({ "name": "sales" })).await;
    let entries = cluster.call("AuditService/ListAuditEntries", json!({ "pageSize": 3 })).await;
    let entry = |at: usize| {
        let entry = &entries["entries"][at];
        ["actor", "method", "object", "outcome", "reason"].map(|field| entry[field].as_str().unwrap().to_owned())
    };
    let eves = "eve@example.org";
    assert_eq!(entry(0), [eves, "WorkspaceService/CreateWorkspace", "", "failed", "WORKSPACE_EXISTS"]);
    let archive = "WorkspaceService/ArchiveWorkspace";
    assert_eq!(entry(1), [eves, archive, "workspace sales", "denied", "WORKSPACE_NOT_FOUND"]);
    assert_eq!(entry(2)[..2], ["owner@localhost".to_owned(), "WorkspaceService/CreateWorkspace".to_owned()]);
    let all = cluster.call("AuditService/ListAuditEntries", json!({ "pageSize": 500 })).await.to_string();
    assert!(!all.contains(PASSWORD) && !all.contains(&eve) && all.contains("SignInService/SignIn"));
    let db = cluster.database.client().await;
    for change in ["UPDATE audit_entry SET actor = 'x'", "DELETE FROM audit_entry", "TRUNCATE audit_entry"] {
        assert!(db.batch_execute(change).await.is_err(), "{change}");
    }
    // Whoever administers a workspace sees its part, and nobody else any.
    assert_eq!(cluster.refused_as(&eve, "AuditService/ListAuditEntries", json!({})).await, "PERMISSION_DENIED");
    let of = json!({ "workspace": "sales" });
    assert_eq!(cluster.refused_as(&eve, "AuditService/ListAuditEntries", of).await, "WORKSPACE_NOT_FOUND");
}

#[tokio::test]
async fn the_trail_forgets_what_is_older_than_it_is_kept() {
    let mut cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let db = cluster.database.client().await;
    // More than one statement takes, and behind younger ones.
    let old = "INSERT INTO audit_entry (at, actor, via, method, object, outcome)
               SELECT now() - interval '401 days', 'ada@example.org', 'session', 'RunService/CreateRun', '', 'ok'
                 FROM generate_series(1, 10001)";
    db.batch_execute(old).await.unwrap();
    let of = "SELECT count(*) FILTER (WHERE actor = 'ada@example.org'), count(*) FILTER (WHERE method = 'WorkspaceService/CreateWorkspace')
                FROM audit_entry";
    let count = async || {
        let row = db.query_one(of, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    assert_eq!(count().await, (10_001, 1));
    cluster.restart(|_| {}).await;
    let wait = Duration::from_secs(30);
    wait_for("what is old to be forgotten", wait, || async { (count().await.0 == 0).then_some(()) }).await;
    assert_eq!(count().await, (0, 1), "what is young stays");
}

#[tokio::test]
async fn a_sign_in_that_opens_nothing_is_none_in_the_trail() {
    let cluster = Cluster::new().await;
    cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await;
    let db = cluster.database.client().await;
    db.batch_execute("ALTER TABLE browser_session RENAME COLUMN csrf_hash TO gone").await.unwrap();
    let form = json!({ "email": "ada@example.org", "password": PASSWORD }).to_string();
    let kind = [("content-type", "application/json")];
    let answer = http::send(http::request(Method::POST, &cluster.url("/auth/session"), &kind, form)).await;
    assert_eq!(answer.status, 500);
    let entry = "SELECT actor, outcome FROM audit_entry WHERE method = '/auth/session'";
    let entry = db.query_one(entry, &[]).await.unwrap();
    assert_eq!((entry.get::<_, &str>(0), entry.get::<_, &str>(1)), ("ada@example.org", "failed"));
}

#[tokio::test]
async fn nobody_gets_out_of_the_trail_by_what_they_write() {
    let cluster = Cluster::new().await;
    let eve = cluster.person("eve@example.org", "ROLE_UNSPECIFIED").await;
    cluster.workspace("sales").await;
    cluster.pipeline("sales", "daily", &[("load", &[])]).await;
    let invite = json!({ "workspace": "sales", "email": "mallory@example.org\u{0}", "role": "WORKSPACE_ROLE_OWNER" });
    cluster.refused_as(&eve, "MemberService/InviteMember", invite).await;
    let run = cluster.call("RunService/CreateRun", json!({ "workspace": "sales", "pipeline": "daily" })).await;
    let cancel = json!({ "runId": run["run"]["id"], "reason": "no\u{0}thing" });
    cluster.refused("RunService/CancelRun", cancel).await;
    let entries = cluster.call("AuditService/ListAuditEntries", json!({ "workspace": "sales" })).await;
    let told = |at: usize| {
        let entry = &entries["entries"][at];
        (entry["method"].clone(), entry["outcome"].clone(), entry["detail"].clone())
    };
    assert_eq!(told(0), (json!("RunService/CancelRun"), json!("failed"), json!({ "reason": "no\u{fffd}thing" })));
    let (method, outcome, detail) = told(2);
    assert_eq!((method, outcome), (json!("MemberService/InviteMember"), json!("denied")));
    assert_eq!(detail["email"], "mallory@example.org\u{fffd}");
}

#[tokio::test]
async fn a_refusal_is_in_the_trail_of_its_workspace_and_of_no_other() {
    let cluster = Cluster::new().await;
    let [ada, eve] = [
        cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await,
        cluster.person("eve@example.org", "ROLE_UNSPECIFIED").await,
    ];
    for workspace in ["sales", "other"] {
        cluster.workspace(workspace).await;
    }
    for (email, role) in
        [("ada@example.org", "WORKSPACE_ROLE_OWNER"), ("eve@example.org", "WORKSPACE_ROLE_COLLABORATOR")]
    {
        let invite = json!({ "workspace": "sales", "email": email, "role": role });
        cluster.call("MemberService/InviteMember", invite).await;
    }
    cluster.pipeline("sales", "daily", &[("a", &[])]).await;
    let run = cluster.run("sales", "daily").await;
    let archive = |name: &str| json!({ "name": name });
    let denied = "PERMISSION_DENIED";
    assert_eq!(cluster.refused_as(&eve, "WorkspaceService/ArchiveWorkspace", archive("sales")).await, denied);
    let absent = cluster.refused_as(&eve, "WorkspaceService/ArchiveWorkspace", archive("other")).await;
    assert_eq!(absent, "WORKSPACE_NOT_FOUND");
    let delete = json!({ "act": "RUNTIME_ACT_DELETE", "workspaces": ["sales", "other"] });
    cluster.call_as(&eve, "RuntimeService/BatchChangeRuntimes", delete).await;
    cluster.call("MemberService/RemoveMember", json!({ "workspace": "sales", "email": "eve@example.org" })).await;
    cluster.refused_as(&eve, "RunService/CancelRun", json!({ "runId": run })).await;
    let of = json!({ "workspace": "sales", "actor": "eve@example.org" });
    let entries = cluster.call_as(&ada, "AuditService/ListAuditEntries", of).await;
    let entry = |entry: &Value| {
        ["method", "object", "outcome", "reason"].map(|field| entry[field].as_str().unwrap().to_owned())
    };
    let seen: Vec<_> = entries["entries"].as_array().unwrap().iter().map(entry).collect();
    let run = format!("run {run} of sales");
    let expected = [
        ["RunService/CancelRun", &run, "denied", "RUN_NOT_FOUND"],
        ["RuntimeService/DeleteRuntime", "workspace sales", "denied", denied],
        ["WorkspaceService/ArchiveWorkspace", "workspace sales", "denied", denied],
    ];
    assert_eq!(seen, expected);
}

/// A browser that is signed in: the headers that its page sends.
async fn browser(cluster: &Cluster, email: &str) -> Vec<(&'static str, String)> {
    let form = json!({ "email": email, "password": PASSWORD }).to_string();
    let json = ("content-type", "application/json");
    let signed_in = http::send(http::request(Method::POST, &cluster.url("/auth/session"), &[json], form)).await;
    assert_eq!(signed_in.status, 204, "{:?}", signed_in.body);
    let (session, csrf) = (cookie(&signed_in, "orrery_session").0, cookie(&signed_in, "orrery_csrf").0);
    let both = format!("orrery_session={session}; orrery_csrf={csrf}");
    vec![("content-type", "application/json".to_owned()), ("cookie", both), ("x-csrf-token", csrf)]
}

async fn by_browser(cluster: &Cluster, browser: &[(&'static str, String)], method: &str, message: Value) -> Answer {
    let headers: Vec<(&str, &str)> = browser.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let url = cluster.url(&format!("/orrery.v1.{method}"));
    http::send(http::request(Method::POST, &url, &headers, message.to_string())).await
}

/// Whether a token still opens something.
async fn opens(cluster: &Cluster, token: &str) -> bool {
    cluster.post_as(token, "SignInService/WhoAmI", json!({})).await.status == 200
}

#[tokio::test]
async fn a_new_password_ends_what_the_former_one_opened() {
    let cluster = Cluster::new().await;
    let signed_in = cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await;
    let [page, other] = [browser(&cluster, "ada@example.org").await, browser(&cluster, "ada@example.org").await];
    let asked_for = async |name: &str| {
        let made = by_browser(&cluster, &page, "TokenService/CreateToken", json!({ "name": name })).await.json();
        made["token"].as_str().unwrap().to_owned()
    };
    let personal = asked_for("ci").await;
    // A program that a page let in ends with what let it in.
    let fresh = rpc::personal_token::generate();
    let made = json!({ "prefix": fresh.prefix, "secretSha256": rpc::personal_token::hex(&fresh.secret_hash) });
    let let_in = json!({ "name": "orrery on laptop", "made": made });
    assert_eq!(by_browser(&cluster, &page, "TokenService/CreateToken", let_in).await.status, 200);
    // So that one sign-in was at the provider.
    let elsewhere =
        cluster.call_as("", "SignInService/SignIn", json!({ "email": "ada@example.org", "password": PASSWORD })).await;
    let elsewhere = elsewhere["token"].as_str().unwrap().to_owned();
    let prefix = elsewhere.rsplit_once('_').unwrap().0.to_owned();
    let db = cluster.database.client().await;
    db.execute("UPDATE access_token SET origin = 'elsewhere' WHERE prefix = $1", &[&prefix]).await.unwrap();

    let change = json!({ "password": PASSWORD, "newPassword": "another password" });
    assert_eq!(by_browser(&cluster, &page, "SignInService/ChangePassword", change).await.status, 200);
    assert!(!opens(&cluster, &signed_in).await && !opens(&cluster, &fresh.text).await);
    assert!(opens(&cluster, &personal).await && opens(&cluster, &elsewhere).await);
    assert_eq!(by_browser(&cluster, &other, "SignInService/WhoAmI", json!({})).await.status, 401);
    assert_eq!(by_browser(&cluster, &page, "SignInService/WhoAmI", json!({})).await.status, 200);

    // An administrator's new one ends the page that changed it as well.
    let again = json!({ "email": "ada@example.org", "password": "another password" });
    let again = cluster.call_as("", "SignInService/SignIn", again).await["token"].as_str().unwrap().to_owned();
    assert!(opens(&cluster, &again).await);
    cluster.call("UserService/ResetPassword", json!({ "email": "ada@example.org" })).await;
    assert!(!opens(&cluster, &again).await && opens(&cluster, &personal).await);
    assert_eq!(by_browser(&cluster, &page, "SignInService/WhoAmI", json!({})).await.status, 401);
}

/// What a request is answered while somebody else is about to end what Ada's password opened.
async fn while_it_ends(cluster: &Cluster, request: impl Future<Output = Answer>) -> Answer {
    let mut ending = cluster.database.client().await;
    let change = ending.transaction().await.unwrap();
    let new = "UPDATE user_account SET password_hash = 'x' || password_hash WHERE email = 'ada@example.org';
               UPDATE access_token SET revoked_at = now() WHERE origin = 'password'";
    change.batch_execute(new).await.unwrap();
    let commit = async {
        let watch = cluster.database.client().await;
        let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_for("the request to wait for it", Duration::from_secs(60), || async {
            watch.query_opt(&format!("{waits} LIMIT 1"), &[]).await.unwrap()
        })
        .await;
        change.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(request, commit);
    let again = "UPDATE user_account SET password_hash = substr(password_hash, 2) WHERE email = 'ada@example.org'";
    cluster.database.client().await.batch_execute(again).await.unwrap();
    answer
}

#[tokio::test]
async fn nothing_that_opens_slips_through_a_change_of_the_password() {
    let cluster = Cluster::new().await;
    let ada = cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await;
    let by_token = opens(&cluster, &ada).await;
    let fresh = rpc::personal_token::generate();
    let made = json!({ "prefix": fresh.prefix, "secretSha256": rpc::personal_token::hex(&fresh.secret_hash) });
    let let_in = cluster.post_as(&ada, "TokenService/CreateToken", json!({ "name": "laptop", "made": made }));
    let answer = while_it_ends(&cluster, let_in).await;
    assert_eq!((by_token, reason(&answer).as_str()), (true, "RIGHT_ENDED"), "{:?}", answer.body);
    let form = json!({ "email": "ada@example.org", "password": PASSWORD });
    let sign_in = cluster.post_as("", "SignInService/SignIn", form.clone());
    assert_eq!(reason(&while_it_ends(&cluster, sign_in).await), "UNAUTHENTICATED");
    let json = ("content-type", "application/json");
    let session = http::request(Method::POST, &cluster.url("/auth/session"), &[json], form.to_string());
    assert_eq!(reason(&while_it_ends(&cluster, http::send(session)).await), "UNAUTHENTICATED");
    let left = "SELECT count(*) FROM access_token WHERE revoked_at IS NULL";
    assert_eq!(cluster.database.client().await.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn everybody_sees_and_ends_the_own_sessions() {
    let cluster = Cluster::new().await;
    cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await;
    let eve = cluster.person("eve@example.org", "ROLE_UNSPECIFIED").await;
    let [page, other] = [browser(&cluster, "ada@example.org").await, browser(&cluster, "ada@example.org").await];
    let listed = by_browser(&cluster, &page, "TokenService/ListTokens", json!({})).await.json();
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let found = |current: bool| sessions.iter().find(|session| session["current"] == json!(current)).unwrap();
    assert_eq!(found(true)["origin"], json!("CREDENTIAL_ORIGIN_PASSWORD"));
    assert_eq!(listed["tokens"][0]["origin"], json!("CREDENTIAL_ORIGIN_PASSWORD"));
    let end = json!({ "token": found(false)["id"] });
    assert!(
        cluster.call_as(&eve, "TokenService/ListTokens", json!({})).await["sessions"].as_array().unwrap().is_empty()
    );
    assert_eq!(cluster.refused_as(&eve, "TokenService/RevokeToken", end.clone()).await, "SESSION_NOT_FOUND");
    assert_eq!(by_browser(&cluster, &page, "TokenService/RevokeToken", end).await.status, 200);
    assert_eq!(by_browser(&cluster, &other, "SignInService/WhoAmI", json!({})).await.status, 401);
    assert_eq!(by_browser(&cluster, &page, "SignInService/WhoAmI", json!({})).await.status, 200);
}
