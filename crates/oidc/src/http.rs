//! The way to a provider: no redirects, which would send a secret elsewhere, a time and a size that an answer may have.

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::redirect;
use std::{future::Future, pin::Pin, sync::Once, time::Duration};

/// For a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer, all of it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A client; clones share its connections.
#[derive(Debug, Clone)]
pub(crate) struct Http(reqwest::Client);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The network, or TLS.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// No answer that HTTP allows.
    #[error(transparent)]
    Build(#[from] openidconnect::http::Error),
    /// More than a provider has to say.
    #[error("the answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

impl Http {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        static CRYPTOGRAPHY: Once = Once::new();
        // A second implementation is refused; whoever came first has set one.
        CRYPTOGRAPHY.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .user_agent("orrery")
            .build()
            .map(Self)
    }

    async fn send(self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut answer = self.0.execute(reqwest::Request::try_from(request)?).await?;
        let mut response = openidconnect::http::Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            response = response.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(response.body(body)?)
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + Sync + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}
