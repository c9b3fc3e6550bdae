//! Plain HTTP/1.1, as a program writes it that knows nothing of us.

use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(40);

/// An answer: its code, and its body where that is JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

/// Posts a body to a path of a server, with these headers.
#[track_caller]
pub(crate) fn post(server: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    ask("POST", "1.1", server, path, headers, body)
}

/// Gets a path of a server, by the version of HTTP in which a body comes in one piece.
#[track_caller]
pub(crate) fn get(server: &str, path: &str) -> Answer {
    ask("GET", "1.0", server, path, &[], "")
}

#[track_caller]
fn ask(verb: &str, version: &str, server: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let host = server.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{verb} {path} HTTP/{version}\r\nHost: {host}\r\nConnection: close\r\n{headers}");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { code, body: serde_json::from_str(body).unwrap_or_default() }
}
