//! Requests on their way to an application: a small one of the test's own, which answers what it was sent.

use crate::cluster::{Cluster, TOKEN, one_key, two_keys};
use secrets::Keyring;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

const KEY: &str = "the-key-of-the-application";
const SOON: Duration = Duration::from_secs(30);
const UPGRADE: &str =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n";

/// Answers each request with the request; after an upgrade, each byte with itself.
pub(crate) async fn application() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, heads) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let told = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                told.lock().unwrap().push(head.clone());
                if head.to_lowercase().contains("upgrade: websocket") {
                    let answer =
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    return;
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close, X-Gone\r\nX-Gone: 1\r\n\
                     Location: http://{addr}/there\r\nSet-Cookie: orrery_session=stolen\r\n\
                     Set-Cookie: own=1; Domain=example\r\n\r\n{head}",
                    head.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    (addr, heads)
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Puts a life of a runtime in that runs, as a scheduler would.
pub(crate) async fn lives(cluster: &Cluster, workspace: &str, endpoint: &str, app: &str) -> Uuid {
    let client = cluster.database.client().await;
    let row = client.query_one("SELECT id, project_id FROM workspace WHERE name = $1", &[&workspace]).await.unwrap();
    let (id, project): (Uuid, Uuid) = (row.get(0), row.get(1));
    let keys = Keyring::parse(&one_key()).unwrap();
    let sealed = keys.seal(&secrets::access_key(&id.to_string(), 1), KEY.as_bytes()).unwrap().to_bytes();
    client.execute("INSERT INTO pool (name, shard) VALUES ('default', 0) ON CONFLICT DO NOTHING", &[]).await.unwrap();
    let insert = "INSERT INTO runtime (workspace_id, project_id, pool, queue_id, number, holder, spec_version, spec, state,
                                       endpoint, access_key, submitted_at)
                  VALUES ($1, $2, 'default', '00000000-0000-0000-0000-000000000000', 1, $3, 1, $4, 'running', $5, $6, now())";
    let spec = json!({ "app": app });
    client.execute(insert, &[&id, &project, &Uuid::new_v4(), &spec, &endpoint, &sealed]).await.unwrap();
    id
}

/// Sends bytes as they are; answers everything that comes.
async fn raw(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(to: SocketAddr, path: &str, headers: &str) -> String {
    raw(to, &format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{headers}\r\n")).await
}

/// Asks for a WebSocket; answers the answer's head and the connection.
async fn open(to: SocketAddr, headers: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!("GET /runtimes/lab/ws HTTP/1.1\r\nHost: {to}\r\n{UPGRADE}{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    (read_head(&mut stream).await, stream)
}

/// A frame goes there and comes back, byte for byte.
async fn echoes(socket: &mut TcpStream) {
    socket.write_all(b"\x81\x85abcdhello").await.unwrap();
    let mut echo = [0; 11];
    socket.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"\x81\x85abcdhello");
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn header<'a>(answer: &'a str, beginning: &str) -> &'a str {
    let line = answer.lines().find(|line| line.to_lowercase().starts_with(beginning)).unwrap_or_default();
    line.split_once(": ").map(|(_, value)| value).unwrap_or_default()
}

/// What a page sends that came with this token in the address of `orrery up`, and the answer.
async fn begin_session(cluster: &Cluster, token: &str) -> String {
    let host = cluster.addr;
    let head = format!("POST /auth/session HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n");
    raw(host, &format!("{head}{}\r\n", bearer(token))).await
}

/// A browser's cookie.
async fn session(cluster: &Cluster) -> String {
    let answer = begin_session(cluster, TOKEN).await;
    assert_eq!(status(&answer), "204", "{answer}");
    header(&answer, "set-cookie: orrery_session=").split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn an_application_gets_what_is_meant_for_it() {
    let cluster = Cluster::new().await;
    cluster.workspace("lab").await;
    let (app, heads) = application().await;
    lives(&cluster, "lab", &app.to_string(), "jupyter").await;
    let host = cluster.addr;
    let spoofed = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Remote-User: root\r\n\
                   Cookie: orrery_session=x; mine=1\r\nConnection: X-Hop\r\nX-Hop: secret-hop\r\nTE: trailers\r\n\
                   Proxy-Authorization: Basic eA==\r\n";
    let answer = get(host, "/runtimes/lab/a%2Fb?c=%20d", &format!("{}{spoofed}", bearer(TOKEN))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let head = heads.lock().unwrap().pop().unwrap();
    assert!(head.starts_with("GET /runtimes/lab/a%2Fb?c=%20d HTTP/1.1\r\n"), "letter for letter: {head}");
    let head = head.to_lowercase();
    for expected in [
        format!("authorization: token {KEY}"),
        "cookie: mine=1".to_owned(),
        format!("host: {host}"),
        "x-forwarded-for: 127.0.0.1".to_owned(),
        format!("x-forwarded-host: {host}"),
        "x-forwarded-proto: http".to_owned(),
        "x-forwarded-prefix: /runtimes/lab".to_owned(),
    ] {
        assert!(head.contains(&format!("{expected}\r\n")), "{expected}: {head}");
    }
    for withheld in ["6.6.6.6", "evil", "root", "secret-hop", "trailers", "proxy-", TOKEN] {
        assert!(!head.contains(withheld), "{withheld}: {head}");
    }
    let (answered, _) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(header(answered, "location"), "/there");
    assert!(!answered.contains("stolen") && !answered.to_lowercase().contains("x-gone"), "{answered}");
    assert_eq!(header(answered, "set-cookie: own"), "own=1; Path=/runtimes/lab/");
    for (request, expected) in [
        ("/runtimes/lab", "308"),
        ("/runtimes/lab/../sales/", "400"),
        ("/runtimes/lab/%2e%2e/x", "400"),
        ("/runtimes/%6cab/", "404"),
        ("/runtimes/nowhere/", "404"),
    ] {
        let answer = get(host, request, &bearer(TOKEN)).await;
        assert_eq!(status(&answer), expected, "{request}: {answer}");
    }
    let twice = format!("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n{}", bearer(TOKEN));
    let smuggled = "0\r\n\r\nGET /runtimes/lab/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let line = "POST /runtimes/lab/x HTTP/1.1";
    raw(host, &format!("{line}\r\nHost: {host}\r\nConnection: close\r\n{twice}\r\n{smuggled}")).await;
    assert!(!heads.lock().unwrap().iter().any(|head| head.contains("smuggled")), "{:?}", heads.lock().unwrap());
}

#[tokio::test]
async fn the_address_of_orrery_up_lets_a_browser_in() {
    let cluster = Cluster::new().await;
    cluster.workspace("lab").await;
    let (app, _) = application().await;
    lives(&cluster, "lab", &app.to_string(), "jupyter").await;
    let answer = begin_session(&cluster, TOKEN).await;
    let (session, csrf) = (header(&answer, "set-cookie: orrery_session="), header(&answer, "set-cookie: orrery_csrf="));
    assert!(session.contains("HttpOnly") && session.contains("SameSite=Strict"), "{answer}");
    assert!(session.contains("Max-Age=43200") && !csrf.is_empty(), "{answer}");
    let cookie = |line: &str| line.split(';').next().unwrap().to_owned();
    let opened = get(cluster.addr, "/runtimes/lab/", &format!("Cookie: {}\r\n", cookie(session))).await;
    assert_eq!(status(&opened), "200", "{opened}");
    // A person's token is for programs, and nobody's is for nothing.
    let ada = cluster.person("ada@example.org", "ROLE_VIEWER").await;
    let refused = begin_session(&cluster, &ada).await;
    assert!(status(&refused) == "403" && refused.contains("TOKEN_BEGINS_NO_SESSION"), "{refused}");
    for wrong in ["", "not-the-token-of-the-operator"] {
        let refused = begin_session(&cluster, wrong).await;
        assert!(status(&refused) == "401" && !refused.contains("orrery_session="), "{refused}");
    }
    let trail = cluster.call("AuditService/ListAuditEntries", json!({})).await.to_string();
    assert!(trail.contains("/auth/session"), "{trail}");
}

#[tokio::test]
async fn only_who_may_open_it_comes_in_and_goes_when_that_ends() {
    let cluster = Cluster::new().await;
    cluster.workspace("lab").await;
    let (app, _) = application().await;
    let id = lives(&cluster, "lab", &app.to_string(), "jupyter").await;
    let outsider = cluster.person("outsider@example.org", "ROLE_UNSPECIFIED").await;
    let viewer = cluster.person("viewer@example.org", "ROLE_VIEWER").await;
    let friend = cluster.person("friend@example.org", "ROLE_UNSPECIFIED").await;
    let invite = json!({ "workspace": "lab", "email": "friend@example.org" });
    cluster.call("MemberService/InviteMember", invite).await;
    let host = cluster.addr;
    let asked = async |headers: &str| status(&get(host, "/runtimes/lab/", headers).await).to_owned();
    assert_eq!(asked("").await, "401");
    assert!(get(host, "/runtimes/lab/", "Accept: text/html\r\n").await.contains("href=\"/#/runtimes\""), "the way in");
    assert_eq!(asked(&bearer(&outsider)).await, "404", "as if it were not there");
    assert_eq!(asked(&bearer(&viewer)).await, "404", "who may look may not open");
    assert_eq!(asked(&bearer(&friend)).await, "200");
    // A page: its own origin only.
    let cookie = format!("Cookie: {}\r\n", session(&cluster).await);
    assert_eq!(asked(&cookie).await, "200");
    assert_eq!(asked(&format!("{cookie}Origin: http://evil.example\r\n")).await, "403");
    assert_eq!(asked(&format!("{cookie}Origin: null\r\n")).await, "403");
    assert_eq!(status(&open(host, &format!("{cookie}Origin: http://evil.example\r\n")).await.0), "403");
    assert_eq!(status(&open(host, &cookie).await.0), "403", "a page says where it is from");
    assert_eq!(status(&open(host, &format!("{cookie}Origin: http://{host}\r\n")).await.0), "101");
    // A WebSocket through any server of the cluster.
    let replica = cluster.replica().await;
    for to in [host, replica] {
        let (head, mut socket) = open(to, &bearer(&friend)).await;
        assert_eq!(status(&head), "101", "{head}");
        echoes(&mut socket).await;
    }
    let (_, mut socket) = open(replica, &bearer(&friend)).await;
    echoes(&mut socket).await;
    let remove = json!({ "workspace": "lab", "email": "friend@example.org" });
    cluster.call("MemberService/RemoveMember", remove).await;
    // The code tells a page that it need not come again: 1008.
    let mut end = Vec::new();
    let closed = tokio::time::timeout(SOON, socket.read_to_end(&mut end)).await;
    closed.expect("an end").unwrap();
    assert!(end.starts_with(b"\x88") && end[2..4] == [0x03, 0xf0], "{end:?}");
    // Stopped, and killed.
    let becomes = async |state: &str, endpoint: &str, expected: &str| {
        let update = "UPDATE runtime SET state = $2, endpoint = $3 WHERE workspace_id = $1";
        cluster.database.client().await.execute(update, &[&id, &state, &endpoint]).await.unwrap();
        let looked = async || (asked(&bearer(TOKEN)).await == expected).then_some(());
        testkit::wait_for(expected, SOON, looked).await;
    };
    becomes("starting", "", "503").await;
    let page = get(host, "/runtimes/lab/", &format!("{}Accept: text/html\r\n", bearer(TOKEN))).await;
    assert!(page.contains("lab is starting") && page.contains("refresh"), "{page}");
    becomes("running", "127.0.0.1:1", "502").await;
}

#[tokio::test]
async fn an_origin_of_its_own_is_entered_with_a_ticket() {
    let cluster = Cluster::with(|settings| {
        settings.runtimes_domain = Some("apps.example".to_owned());
        settings.public_url = Some("http://orrery.example".to_owned());
    })
    .await;
    for name in ["lab", "other"] {
        cluster.workspace(name).await;
    }
    let (app, heads) = application().await;
    let lab = lives(&cluster, "lab", &app.to_string(), "vs_code").await.simple().to_string();
    let other = lives(&cluster, "other", &app.to_string(), "jupyter").await.simple().to_string();
    let cookie = format!("Cookie: {}\r\n", session(&cluster).await);
    let sent = get(cluster.addr, "/runtimes/lab/x?y=1", &cookie).await;
    let to = header(&sent, "location");
    let enter = to.strip_prefix(&format!("http://{lab}.apps.example")).unwrap_or_else(|| panic!("{sent}")).to_owned();
    // Any server of the cluster knows a ticket that another one made.
    let replica = cluster.replica().await;
    let at = async |id: &str, path: &str, headers: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {id}.apps.example\r\nConnection: close\r\n");
        raw(replica, &format!("{head}{headers}\r\n")).await
    };
    assert_eq!(status(&at(&other, &enter, "").await), "401", "a ticket is for one workspace");
    let entered = at(&lab, &enter, "").await;
    for server in [replica, cluster.addr] {
        let head = format!("GET {enter} HTTP/1.1\r\nHost: {lab}.apps.example\r\nConnection: close\r\n\r\n");
        let again = raw(server, &head).await;
        assert!(status(&again) == "401" && again.contains("used already"), "a ticket is used once: {again}");
    }
    assert_eq!(header(&entered, "location"), "/runtimes/lab/x?y=1", "{entered}");
    let ticket = format!("Cookie: {}\r\n", header(&entered, "set-cookie: __host-").split(';').next().unwrap());
    assert_eq!(status(&at(&lab, "/runtimes/lab/x", &ticket).await), "200");
    let head = heads.lock().unwrap().pop().unwrap();
    assert!(head.starts_with("GET /x HTTP/1.1"), "{head}");
    assert!(head.contains(&format!("code-server-session={KEY}")) && !head.contains("__Host-"), "{head}");
    assert_ne!(status(&at(&other, "/runtimes/other/", &ticket).await), "200");
    // Whatever the address says, one comes to the application and nowhere else.
    for evil in [
        "//evil.example",
        "https://evil.example/",
        "/%5Cevil.example",
        "/runtimes/other/",
        "/runtimes/lab/%5C..",
        "/runtimes/lab/%0D%0ASet-Cookie:x=1",
    ] {
        let sent = get(cluster.addr, "/runtimes/lab/", &cookie).await;
        let fresh = header(&sent, "location").strip_prefix(&format!("http://{lab}.apps.example")).unwrap().to_owned();
        let (with_ticket, _) = fresh.split_once("&to=").unwrap();
        let answer = at(&lab, &format!("{with_ticket}&to={evil}"), "").await;
        assert_eq!(header(&answer, "location"), "/runtimes/lab/", "{evil}: {answer}");
    }
    let home = at(&lab, "/", "Accept: text/html\r\n").await;
    assert_eq!(header(&home, "location"), "http://orrery.example/runtimes/lab/");
    // Nothing of this server itself is there, and no sibling's page may ask.
    assert_eq!(status(&at(&lab, "/orrery.v1.RunService/GetRun", &ticket).await), "404");
    let sibling = format!("{ticket}Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\n");
    assert_eq!(status(&at(&lab, "/runtimes/lab/", &sibling).await), "403");
    // A new life is another one.
    cluster.database.client().await.execute("UPDATE runtime SET number = 2", &[]).await.unwrap();
    let refused = async || (status(&at(&lab, "/runtimes/lab/x", &ticket).await) != "200").then_some(());
    testkit::wait_for("the end of the ticket", SOON, refused).await;
}

#[tokio::test]
async fn a_ticket_that_was_not_taken_in_time_has_expired() {
    let cluster = Cluster::with(|settings| settings.runtimes_domain = Some("apps.example".to_owned())).await;
    cluster.workspace("lab").await;
    let (app, _) = application().await;
    let lab = lives(&cluster, "lab", &app.to_string(), "jupyter").await;
    let now = jiff::Timestamp::now().as_second();
    let keys = Keyring::parse(&one_key()).unwrap();
    for (until, expected, word) in [(now, "401", "TICKET_EXPIRED"), (now + 60, "303", "/runtimes/lab/")] {
        let ticket = json!({ "id": Uuid::new_v4(), "stage": "Enter", "workspace": lab, "number": 1, "user": Uuid::nil(),
                             "session": null, "token": null, "until": until });
        let place = secrets::Place { scope: "runtimes", name: "ticket", version: 1 };
        let sealed = keys.seal(&place, ticket.to_string().as_bytes()).unwrap().to_bytes();
        let sealed: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        let head = format!("GET /.orrery/enter?ticket={sealed} HTTP/1.1\r\nConnection: close\r\n");
        let answer = raw(cluster.addr, &format!("{head}Host: {}.apps.example\r\n\r\n", lab.simple())).await;
        assert!(status(&answer) == expected && answer.contains(word), "{answer}");
    }
}

#[tokio::test]
async fn a_workspace_has_so_many_connections_and_no_more() {
    let cluster = Cluster::new().await;
    cluster.workspace("lab").await;
    let (app, _) = application().await;
    lives(&cluster, "lab", &app.to_string(), "jupyter").await;
    let mut sockets = Vec::new();
    for _ in 0..256 {
        let (head, socket) = open(cluster.addr, &bearer(TOKEN)).await;
        assert_eq!(status(&head), "101", "{head}");
        sockets.push(socket);
    }
    let asked = async || get(cluster.addr, "/runtimes/lab/", &bearer(TOKEN)).await;
    let answer = asked().await;
    assert!(status(&answer) == "429" && answer.contains("TOO_MANY_CONNECTIONS"), "{answer}");
    drop(sockets);
    testkit::wait_for("room", SOON, async || (status(&asked().await) == "200").then_some(())).await;
}

#[tokio::test]
async fn applications_stay_open_while_the_clusters_keys_change() {
    let mut cluster = Cluster::new().await;
    let (app, heads) = application().await;
    for name in ["lab", "other"] {
        cluster.workspace(name).await;
        lives(&cluster, name, &app.to_string(), "jupyter").await;
    }
    let write = |text: String| {
        move |settings: &mut web_server::settings::Settings| {
            std::fs::write(settings.secret_keys_file.as_ref().unwrap(), text).unwrap();
        }
    };
    cluster.restart(write(two_keys())).await;
    let rotate = async |limit: i32| {
        let rotated = cluster.call("SecretService/RotateSecrets", json!({ "limit": limit })).await;
        (rotated["rotated"].as_str().unwrap().to_owned(), rotated["remaining"].as_str().unwrap().to_owned())
    };
    assert_eq!(rotate(1).await, ("1".to_owned(), "1".to_owned()));
    assert_eq!(rotate(9).await, ("1".to_owned(), "0".to_owned()));
    assert_eq!(rotate(9).await, ("0".to_owned(), "0".to_owned()));
    // The old key is taken away for good.
    cluster.restart(write(format!("two:{}", "22".repeat(32)))).await;
    for name in ["lab", "other"] {
        assert_eq!(status(&get(cluster.addr, &format!("/runtimes/{name}/"), &bearer(TOKEN)).await), "200");
        assert!(heads.lock().unwrap().pop().unwrap().contains(KEY), "the application knows the key that it had");
    }
}
