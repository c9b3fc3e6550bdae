//! Messages to real receivers: a small HTTP server and a small SMTP server, on sockets.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use notify::{Config, Event, Facts, Policy, SendError, message, send};
use serde_json::{Value, json};
use std::collections::HashMap;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// One request as it came: path, headers, body.
struct Got {
    path: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An HTTP server that answers every request with `answer`.
async fn http(answer: &'static str) -> (u16, mpsc::Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (got, requests) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let request = read(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            got.send(request).await.unwrap();
        }
    });
    (port, requests)
}

async fn read(stream: &mut BufReader<TcpStream>) -> Got {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    Got { path, headers, body: String::from_utf8(body).unwrap() }
}

/// An SMTP server that takes one letter: the commands that came, and the letter.
async fn smtp() -> (u16, tokio::task::JoinHandle<(Vec<String>, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        stream.write_all(b"220 here\r\n").await.unwrap();
        let (mut commands, mut letter) = (Vec::new(), String::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap() == 0 {
                return (commands, letter);
            }
            let answer = match line.split([' ', '\r']).next().unwrap() {
                "EHLO" => "250-here\r\n250 AUTH PLAIN\r\n",
                "AUTH" => "235 welcome\r\n",
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await.unwrap();
                    loop {
                        let mut line = String::new();
                        stream.read_line(&mut line).await.unwrap();
                        if line == ".\r\n" {
                            break;
                        }
                        letter.push_str(&line);
                    }
                    "250 taken\r\n"
                }
                "QUIT" => {
                    stream.write_all(b"221 bye\r\n").await.unwrap();
                    return (commands, letter);
                }
                _ => "250 fine\r\n",
            };
            commands.push(line.trim_end().to_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, taken)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn facts() -> Facts {
    Facts {
        workspace: "sales".into(),
        pipeline_uuid: "nightly".into(),
        pipeline_run_id: "r1".into(),
        pipeline_run_url: "https://orrery.example/#/runs/r1".into(),
        error: "no such table".into(),
        ..Facts::default()
    }
}

async fn tell(config: Value, policy: &Policy) -> Result<(), SendError> {
    let config = Config::parse(config.as_object().unwrap()).unwrap();
    let message = message::message(&config, Event::Failure, &facts());
    let channel = config.channels.values().next().unwrap();
    send(channel, "r1/7/failure/project/x", &message, &facts(), policy).await
}

fn here() -> Policy {
    Policy::new(&["127.0.0.0/8".into()]).unwrap()
}

#[tokio::test]
async fn each_chat_gets_its_own_form() {
    let (port, mut requests) = http(OK).await;
    let url = |path: &str| json!({ "webhook_url": format!("http://127.0.0.1:{port}/{path}") });
    for (key, check) in [
        ("slack_config", "/blocks/1/text/text"),
        ("teams_config", "/attachments/0/content/body/1/text"),
        ("discord_config", "/content"),
        ("google_chat_config", "/text"),
        ("telegram_config", "/text"),
    ] {
        tell(json!({ key: url(key) }), &here()).await.unwrap();
        let got = requests.recv().await.unwrap();
        assert_eq!(got.path, format!("/{key}"));
        assert_eq!(got.headers["orrery-notification"], "r1/7/failure/project/x");
        let told = got.json();
        let text = told.pointer(check).and_then(Value::as_str).unwrap_or_else(|| panic!("{key}: {told}"));
        assert!(text.contains("nightly") && text.contains("no such table"), "{key}: {text}");
    }
}

#[tokio::test]
async fn a_webhook_is_signed() {
    let (port, mut requests) = http(OK).await;
    let url = format!("http://127.0.0.1:{port}/hook");
    let config = json!({ "webhook_config": { "url": url, "secret": "s3", "headers": { "x-team": "data" } } });
    tell(config, &here()).await.unwrap();
    let got = requests.recv().await.unwrap();
    assert_eq!(got.headers["orrery-signature"], send::signature("s3", &got.headers["orrery-timestamp"], &got.body));
    assert_eq!(got.headers["x-team"], "data");
    let told = got.json();
    assert_eq!((&told["event"], &told["facts"]["pipeline_uuid"]), (&json!("failure"), &json!("nightly")));
}

#[tokio::test]
async fn what_is_refused_for_good_is_told_from_what_may_pass() {
    for (answer, lasting) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 8\r\nconnection: close\r\n\r\nno\x07 hook", true),
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 29\r\nconnection: close\r\n\r\nCannot POST /SECRET?k=SECRET2",
            true,
        ),
        ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", false),
        ("HTTP/1.1 429 Slow\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", false),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            true,
        ),
    ] {
        let (port, mut requests) = http(answer).await;
        let url = format!("http://127.0.0.1:{port}/SECRET?k=SECRET2");
        let error = tell(json!({ "slack_config": { "webhook_url": url } }), &here()).await.unwrap_err();
        assert_eq!(matches!(error, SendError::Lasting(_)), lasting, "{error}");
        assert!(!error.to_string().contains("SECRET") && !error.to_string().contains('\x07'), "{error}");
        requests.recv().await.unwrap();
        assert!(requests.try_recv().is_err(), "a redirect is not followed");
    }
    let nobody = "http://127.0.0.1:1/SECRET";
    let error = tell(json!({ "slack_config": { "webhook_url": nobody } }), &here()).await.unwrap_err();
    assert!(matches!(error, SendError::Passing(_)) && !error.to_string().contains("SECRET"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_cut_within_a_secret_shows_nothing_of_it() {
    let secret = "S".repeat(100);
    let said = format!("{secret} ").repeat(7);
    let answer = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}", said.len());
    let (port, _requests) = http(Box::leak(answer.into_boxed_str())).await;
    let url = format!("http://127.0.0.1:{port}/{secret}");
    let error = tell(json!({ "slack_config": { "webhook_url": url } }), &here()).await.unwrap_err();
    assert!(error.to_string().contains("404") && !error.to_string().contains("SSSS"), "{error}");
}

#[tokio::test]
async fn nothing_goes_where_only_the_cluster_can_reach() {
    let (port, mut requests) = http(OK).await;
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let url = format!("https://{host}:{port}/");
        let error = tell(json!({ "slack_config": { "webhook_url": url } }), &Policy::default()).await.unwrap_err();
        assert!(matches!(error, SendError::Lasting(_)), "{host}: {error}");
        assert!(error.to_string().contains("not on the public internet"), "{host}: {error}");
    }
    let mail = json!({ "email_config": { "smtp_host": "localhost", "smtp_port": port, "smtp_starttls": false,
                                         "smtp_mail_from": "a@example.com", "to_emails": ["b@example.com"] } });
    assert!(matches!(tell(mail, &Policy::default()).await, Err(SendError::Lasting(_))));
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn a_letter_arrives() {
    let (port, taken) = smtp().await;
    let config = json!({ "email_config": {
        "smtp_host": "127.0.0.1", "smtp_port": port, "smtp_starttls": false, "smtp_user": "u", "smtp_password": "p",
        "smtp_mail_from": "Orrery <orrery@example.com>", "to_emails": ["a@example.com", "b@example.com"],
    }, "message_templates": { "failure": { "title": "{pipeline_uuid} ist gescheitert: ü" } } });
    tell(config, &here()).await.unwrap();
    let (commands, letter) = taken.await.unwrap();
    assert!(commands.iter().any(|c| c == "MAIL FROM:<orrery@example.com>"), "{commands:?}");
    assert_eq!(commands.iter().filter(|c| c.starts_with("RCPT TO:")).count(), 2, "{commands:?}");
    assert!(commands.iter().any(|c| c.starts_with("AUTH PLAIN ")), "{commands:?}");
    assert!(
        letter.contains("no such table") && letter.contains("Message-ID: <r1.7.failure.project.x@orrery>"),
        "{letter}"
    );
    assert!(
        letter.contains("MIME-Version: 1.0") && letter.contains("Content-Type: text/plain; charset=utf-8"),
        "{letter}"
    );
    assert!(letter.contains("Subject: ") && letter.contains("=?utf-8?"), "{letter}");
}
