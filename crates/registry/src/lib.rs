//! Which content a tag of an image names at this moment, as its registry says it (the distribution protocol of OCI).
//!
//! Only registries that the operator names are asked: an image's name is written by people, and nobody makes this process
//! talk to an address of their choice. Nothing is pulled, and no credentials are sent; a token that anybody gets is asked
//! for where a registry wants one. Refuses to know who may run which image.

mod reference;

pub use reference::Reference;

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE},
    redirect,
};
use std::{collections::BTreeMap, sync::Once, time::Duration};

/// For one answer; a person waits for it.
const TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest answer that is read: one with a token.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Registries that are named.
const REGISTRIES_MAX: usize = 64;
/// What a tag may name: a list for several machines, or one image.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// The header that names the content.
const DIGEST: &str = "docker-content-digest";

/// Why a tag's content is not known. Completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A row of the setting is none.
    #[error("read `{0}` as a registry: write `host` or `host=https://address`, {REGISTRIES_MAX} at most")]
    Row(String),
    /// There is no way to ask.
    #[error("prepare HTTPS for registries; this machine may know no certificates to trust")]
    Client(#[source] reqwest::Error),
    /// The registry has no such image, or shows it to nobody without credentials.
    #[error("find image `{0}`: its registry has none of this name and tag that anybody may pull")]
    NoImage(String),
    /// The registry is away, or answers oddly.
    #[error("ask the registry `{host}`: {why}")]
    Away {
        /// Which.
        host: String,
        /// What happened.
        why: String,
    },
}

/// The registries that may be asked.
#[derive(Debug)]
pub struct Registries {
    /// None where nobody is asked: a machine without certificates then needs none.
    client: Option<Client>,
    known: BTreeMap<String, Url>,
}

impl Registries {
    /// Of rows as `host` or `host=address`, where a registry is reached by another address than its name.
    ///
    /// # Errors
    /// A row is none of these, or there are too many; and when this machine knows no certificates to trust.
    pub fn new<'a>(rows: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut known = BTreeMap::new();
        for row in rows.into_iter().map(str::trim).filter(|row| !row.is_empty()) {
            let wrong = || Error::Row(row.to_owned());
            let (host, address) = match row.split_once('=') {
                Some((host, address)) => (host, address.to_owned()),
                None => (row, format!("https://{}", reference::address(row))),
            };
            let url: Url = address.parse().map_err(|_| wrong())?;
            let usable = matches!(url.scheme(), "http" | "https") && url.host().is_some() && !host.contains('/');
            if !usable || host.is_empty() || known.len() >= REGISTRIES_MAX {
                return Err(wrong());
            }
            known.insert(host.to_owned(), url);
        }
        let client = (!known.is_empty()).then(client).transpose()?;
        Ok(Self { client, known })
    }

    /// The image with the digest of what its tag names now; `None` where it has one already, or where its registry is not
    /// one that may be asked.
    ///
    /// # Errors
    /// The registry does not answer, or has no such image.
    pub async fn pinned(&self, image: &str) -> Result<Option<String>, Error> {
        let Some(reference) = Reference::read(image).filter(|reference| reference.digest.is_none()) else {
            return Ok(None);
        };
        let (Some(base), Some(client)) = (self.known.get(&reference.host), &self.client) else { return Ok(None) };
        let away = |why: String| Error::Away { host: reference.host.clone(), why };
        let url = base
            .join(&format!("/v2/{}/manifests/{}", reference.path, reference.tag))
            .map_err(|error| away(error.to_string()))?;
        let mut answer = head(client, &url, None).await.map_err(away)?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let token = token(client, base, answer.headers(), &reference.path).await.map_err(away)?;
            answer = head(client, &url, Some(&token)).await.map_err(away)?;
        }
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Error::NoImage(image.to_owned()));
            }
            other => return Err(away(format!("it answers with {other}"))),
        }
        let digest = answer.headers().get(DIGEST).and_then(|digest| digest.to_str().ok());
        let digest = digest.filter(|digest| reference::is_digest(digest));
        let digest = digest.ok_or_else(|| away("its answer names no digest".to_owned()))?;
        Ok(Some(format!("{image}@{digest}")))
    }
}

fn client() -> Result<Client, Error> {
    static PROVIDER: Once = Once::new();
    // Whoever was first is right; TLS panics without one.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .user_agent("orrery")
        .build()
        .map_err(Error::Client)
}

async fn head(client: &Client, url: &Url, token: Option<&str>) -> Result<Response, String> {
    let mut request = client.head(url.clone()).header(ACCEPT, MANIFESTS);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    request.send().await.map_err(|error| error.without_url().to_string())
}

/// A token that anybody gets, from where the registry says.
async fn token(client: &Client, base: &Url, headers: &HeaderMap, path: &str) -> Result<String, String> {
    let asks = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let fields = asks.strip_prefix("Bearer ").ok_or("it wants credentials, of which this server has none")?;
    let field = |name: &str| {
        let begin = fields.find(&format!("{name}=\""))? + name.len() + 2;
        fields[begin..].split('"').next()
    };
    let mut realm: Url = field("realm").and_then(|realm| realm.parse().ok()).ok_or("it names no place for tokens")?;
    // Nothing is asked in the clear that the operator did not name so.
    if realm.scheme() != "https" && realm.origin() != base.origin() {
        return Err("its place for tokens is not reached by HTTPS".to_owned());
    }
    let scope = format!("repository:{path}:pull");
    realm
        .query_pairs_mut()
        .extend_pairs(field("service").map(|service| ("service", service)))
        .append_pair("scope", &scope);
    let broken = |error: reqwest::Error| error.without_url().to_string();
    let mut answer = client.get(realm).send().await.map_err(broken)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("its place for tokens answers with {}", answer.status()));
    }
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(broken)? {
        bytes.extend_from_slice(&part);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err("its place for tokens says too much".to_owned());
        }
    }
    let told: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let token = told["token"].as_str().or(told["access_token"].as_str());
    token.map(str::to_owned).ok_or_else(|| "its place for tokens gives none".to_owned())
}
