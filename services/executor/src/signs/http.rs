//! One request to an application, to see how it is, or to whoever measures it. Refuses to follow, to keep connections, and to read
//! more than a little.

use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// An application that takes longer is not well.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is looked at.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Status and body of `GET path`, with the key as a token. HTTP/1.0, so that the answer is plain and ends with its
/// connection.
pub(crate) async fn get(at: SocketAddr, path: &str, key: &str) -> io::Result<(u16, Vec<u8>)> {
    let headers = format!("Authorization: token {key}\r\nAccept: application/json\r\n");
    read(&ask(at, path, &headers, ANSWER_BYTES_MAX).await?)
}

/// The same of a text that is there for everybody; one that is longer than that is none.
pub(crate) async fn text(at: SocketAddr, path: &str, bytes_max: u64) -> io::Result<(u16, Vec<u8>)> {
    let answer = ask(at, path, "Accept: text/plain\r\n", bytes_max + 1).await?;
    if u64::try_from(answer.len()).is_ok_and(|bytes| bytes > bytes_max) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is too long"));
    }
    read(&answer)
}

async fn ask(at: SocketAddr, path: &str, headers: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
    let ask = async {
        let mut stream = TcpStream::connect(at).await?;
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: {at}\r\nUser-Agent: orrery-probe\r\n{headers}Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(bytes_max).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    timeout(TIMEOUT, ask).await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time"))?
}

fn read(answer: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    parse(answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not answer in HTTP"))
}

fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n")?;
    let line = std::str::from_utf8(answer.get(..head)?).ok()?.lines().next()?;
    let status = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer[head + 4..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::{parse, text};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn answers_are_read() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}"), Some((200, b"{}".to_vec())));
        assert_eq!(parse(b"HTTP/1.0 404\r\n\r\n"), Some((404, Vec::new())));
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n"), None);
    }

    #[tokio::test]
    async fn of_a_text_that_is_too_long_nothing_is_read() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let answer = b"HTTP/1.0 200 OK\r\n\r\nlong";
        let serving = async {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    asked.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(answer).await.unwrap();
            }
        };
        let bytes = u64::try_from(answer.len()).unwrap();
        let asking = async { (text(at, "/", bytes).await, text(at, "/", bytes - 1).await) };
        let ((), (whole, cut)) = tokio::join!(serving, asking);
        assert_eq!(whole.unwrap(), (200, b"long".to_vec()));
        assert_eq!(cut.unwrap_err().to_string(), "its answer is too long");
    }
}
