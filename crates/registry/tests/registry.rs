//! What is asked of a registry, and what is made of its answers. The registry is a double that knows one image and shows it
//! to whoever has fetched a token, as the public ones do.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use registry::{Error, Registries};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
};

fn digest() -> String {
    format!("sha256:{}", "5e".repeat(32))
}

/// Answers one connection after the other; its address.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &own);
        }
    });
    address
}

fn answer(mut stream: TcpStream, own: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut request, mut authorized, mut accepts) = (String::new(), false, false);
    reader.read_line(&mut request).unwrap();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        authorized |= line.trim_end().eq_ignore_ascii_case("authorization: Bearer for-anybody");
        accepts |= line.starts_with("accept:") && line.contains("image.index.v1+json");
        line.clear();
    }
    let head = request.starts_with("HEAD ");
    let (status, headers, body) =
        if request.starts_with("GET /token?service=lab&scope=repository%3Alab%2Fjupyter%3Apull ") {
            ("200 OK", String::new(), r#"{"token":"for-anybody"}"#)
        } else if head && !authorized {
            let asks = format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"lab\"\r\n");
            ("401 Unauthorized", asks, "")
        } else if head && accepts && request.starts_with("HEAD /v2/lab/jupyter/manifests/4 ") {
            ("200 OK", format!("Docker-Content-Digest: {}\r\n", digest()), "")
        } else {
            ("404 Not Found", String::new(), "")
        };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
}

#[tokio::test]
async fn a_tag_is_what_its_registry_says_and_nobody_else_is_asked() {
    let address = registry();
    let row = format!("registry.lab=http://{address}");
    let registries = Registries::new([row.as_str(), "  "]).unwrap();
    let pinned = registries.pinned("registry.lab/lab/jupyter:4").await.unwrap();
    assert_eq!(pinned, Some(format!("registry.lab/lab/jupyter:4@{}", digest())));
    let wrong = registries.pinned("registry.lab/lab/jupyter:5").await.unwrap_err();
    assert!(matches!(&wrong, Error::NoImage(image) if image.ends_with(":5")), "{wrong}");
    // By its address it is another one, which nobody named.
    for image in [format!("{address}/lab/jupyter:4"), "python:3".to_owned(), pinned.unwrap()] {
        assert_eq!(registries.pinned(&image).await.unwrap(), None, "{image}");
    }
    let away =
        Registries::new(["registry.lab=http://127.0.0.1:1"]).unwrap().pinned("registry.lab/x:1").await.unwrap_err();
    assert!(matches!(away, Error::Away { host, .. } if host == "registry.lab"));
    for row in ["=http://a", "a=file:///etc", "a/b", "a=b c"] {
        assert!(matches!(Registries::new([row]), Err(Error::Row(_))), "{row}");
    }
}
