//! Sends one message by one channel, once. Refuses to try again, to follow redirects and to use a proxy.

use crate::{
    address::{Checked, Policy, Refusal},
    channel::{Channel, Email, Webhook},
    message::{Facts, Message},
};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    message::{
        Mailbox,
        header::{self, ContentType},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Tls, TlsParameters},
    },
};
use reqwest::{StatusCode, Url, redirect};
use sha2::Sha256;
use std::{sync::Once, time::Duration};

/// Until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte to the last.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// What is read of an answer, for the record.
const ANSWER_BYTES_MAX: usize = 512;
/// Shorter parts of an address, such as `v1`, are words like any others.
const SECRET_CHARS_MIN: usize = 4;

/// The same in every attempt, so that a receiver can tell a repetition.
const ID_HEADER: &str = "orrery-notification";
const TIME_HEADER: &str = "orrery-timestamp";
/// `v1=` and the HMAC-SHA-256 of the timestamp, a dot and the body, in hex.
const SIGNATURE_HEADER: &str = "orrery-signature";

/// Why a message was not taken. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may be taken later.
    #[error("{0}")]
    Passing(String),
    /// It will not be taken.
    #[error("{0}")]
    Lasting(String),
}

impl From<Refusal> for SendError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forbidden(why) => Self::Lasting(why),
            Refusal::Unresolved(why) => Self::Passing(why),
        }
    }
}

/// Sends a message; `key` names it for the receiver.
///
/// # Errors
/// When it was not taken, or not in [`SEND_TIMEOUT`]; then it may have been taken all the same.
pub async fn send(
    channel: &Channel,
    key: &str,
    message: &Message,
    facts: &Facts,
    policy: &Policy,
) -> Result<(), SendError> {
    static PROVIDER: Once = Once::new();
    // A second provider is refused; whoever came first has set one.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let sending = async {
        match (channel, channel.request(key, message, facts)) {
            (Channel::Email(email), _) => mail(email, key, message, policy).await,
            (Channel::Webhook(webhook), Some((url, document))) => {
                post(url, key, &document, Some(webhook), policy).await
            }
            (_, Some((url, document))) => post(url, key, &document, None, policy).await,
            (_, None) => Ok(()),
        }
    };
    let late = |_| SendError::Passing(format!("no answer in {} s", SEND_TIMEOUT.as_secs()));
    tokio::time::timeout(SEND_TIMEOUT, sending).await.map_err(late)?
}

async fn post(
    url: &str,
    key: &str,
    document: &serde_json::Value,
    webhook: Option<&Webhook>,
    policy: &Policy,
) -> Result<(), SendError> {
    let lasting = |why: &str| SendError::Lasting(why.to_owned());
    let url = Url::parse(url).map_err(|_| lasting("the URL cannot be read"))?;
    let host = url.host_str().ok_or_else(|| lasting("the URL names no host"))?;
    let port = url.port_or_known_default().ok_or_else(|| lasting("the URL names no port"))?;
    let checked = policy.resolve(host, port).await?;
    if url.scheme() != "https" && !checked.private {
        return Err(lasting("the URL must begin with https://: what it holds would travel in clear"));
    }
    let (client, secrets) = (client(host, &checked)?, secrets(&url, webhook));
    let body = document.to_string();
    let at = Timestamp::now().as_second().to_string();
    let mut request = client.post(url).header("content-type", "application/json").header(ID_HEADER, key);
    if let Some(webhook) = webhook {
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        if let Some(secret) = &webhook.secret {
            request = request.header(SIGNATURE_HEADER, signature(secret, &at, &body)).header(TIME_HEADER, &at);
        }
    }
    // Errors of this client name the URL, which is a secret.
    let answer = request.body(body).send().await.map_err(|error| SendError::Passing(told(&error.without_url())))?;
    judge(answer, &secrets).await
}

/// What a receiver's answer may repeat and nobody is shown: whatever of the URL is not its host, and what the request was given
/// beside it. The longest first, since one may be a part of another.
fn secrets(url: &Url, webhook: Option<&Webhook>) -> Vec<String> {
    let parts = url.path_segments().into_iter().flatten().map(str::to_owned);
    let raw = url.query().into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
    let values = url.query_pairs().map(|(_, value)| value.into_owned()).chain(raw.map(|(_, value)| value.to_owned()));
    let given =
        webhook.into_iter().flat_map(|webhook| webhook.headers.iter().map(|(_, value)| value).chain(&webhook.secret));
    let whole = [url.path().to_owned(), url.query().unwrap_or_default().to_owned()];
    let mut secrets: Vec<String> = whole.into_iter().chain(parts).chain(values).chain(given.cloned()).collect();
    secrets.retain(|secret| secret.chars().count() >= SECRET_CHARS_MIN);
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

fn client(host: &str, checked: &Checked) -> Result<reqwest::Client, SendError> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(SEND_TIMEOUT)
        .pool_max_idle_per_host(0)
        .user_agent("orrery")
        .resolve_to_addrs(host, &checked.addresses)
        .build()
        .map_err(|error| SendError::Passing(told(&error)))
}

async fn judge(mut answer: reqwest::Response, secrets: &[String]) -> Result<(), SendError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let bytes_max = ANSWER_BYTES_MAX + secrets.first().map_or(0, String::len);
    let mut body = Vec::new();
    while body.len() < bytes_max
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk[..chunk.len().min(bytes_max - body.len())]);
    }
    let said: String = String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).collect();
    let mut said = secrets.iter().fold(said, |said, secret| said.replace(secret, "[secret]"));
    if body.len() >= bytes_max {
        // One may have been cut at the end.
        said.truncate(said.floor_char_boundary(said.len().saturating_sub(bytes_max - ANSWER_BYTES_MAX)));
    }
    said.truncate(said.floor_char_boundary(ANSWER_BYTES_MAX));
    let why = format!("the receiver answered {status}: {said}");
    let passing = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
    Err(if passing { SendError::Passing(why) } else { SendError::Lasting(why) })
}

/// The signature of a body that is sent at this second.
#[must_use]
pub fn signature(secret: &str, at: &str, body: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
    let Ok(mut mac) = mac else { return String::new() };
    mac.update(at.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={digits}")
}

async fn mail(email: &Email, key: &str, message: &Message, policy: &Policy) -> Result<(), SendError> {
    let lasting = |why: String| SendError::Lasting(why);
    let checked = policy.resolve(&email.host, email.port).await?;
    let Some(address) = checked.addresses.first() else { return Ok(()) };
    if !email.tls && !email.starttls && !checked.private {
        return Err(lasting("the mail server must be reached with smtp_ssl or smtp_starttls".to_owned()));
    }
    let mailbox = |text: &String| text.parse::<Mailbox>().map_err(|e| SendError::Lasting(e.to_string()));
    let id: String = key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '.' }).collect();
    let mut letter = lettre::Message::builder()
        .from(mailbox(&email.from)?)
        .subject(&message.title)
        .header(header::MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN)
        .message_id(Some(format!("<{id}@orrery>")));
    for to in &email.to {
        letter = letter.to(mailbox(to)?);
    }
    let text = format!("{}\n\n{}\n", message.summary, message.details);
    let letter = letter.body(text).map_err(|error| lasting(error.to_string()))?;
    // The connection goes to the address that was checked; its certificate is that of the name.
    let encryption = || TlsParameters::new(email.host.clone()).map_err(|error| SendError::Lasting(error.to_string()));
    let tls = match (email.tls, email.starttls) {
        (true, _) => Tls::Wrapper(encryption()?),
        (false, true) => Tls::Required(encryption()?),
        (false, false) => Tls::None,
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
        .port(email.port)
        .tls(tls)
        .timeout(Some(CONNECT_TIMEOUT));
    if let (Some(user), Some(password)) = (&email.user, &email.password) {
        transport = transport.credentials(Credentials::new(user.clone(), password.clone()));
    }
    let outcome = transport.build().send(letter).await;
    outcome.map(drop).map_err(|error| {
        let why = told(&error);
        if error.is_permanent() { SendError::Lasting(why) } else { SendError::Passing(why) }
    })
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_others_compute() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac key
        let expected = "v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
        assert_eq!(signature("key", "1700000000", "{}"), expected);
        assert_ne!(signature("key", "1700000000", "{}"), signature("key", "1700000001", "{}"));
    }
}
