//! Who somebody is, as a provider of OpenID Connect says it: the code flow with PKCE, a nonce, and keys that are found by
//! discovery.
//!
//! Refuses to know what a person may do here, and to keep anything between the two halves of a sign-in: callers do.

mod http;

use http::Http;
pub use http::HttpError;
use openidconnect::{
    AccessTokenHash, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EmptyAdditionalClaims, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, Scope, StandardClaims, TokenResponse,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreGenderClaim, CoreProviderMetadata, CoreTokenResponse,
        CoreUserInfoClaims,
    },
    url::Url,
};
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// What was discovered is asked for again after so long: providers change their keys.
const DISCOVERY_KEPT: Duration = Duration::from_secs(3_600);
/// A key that is not known may be a new one: the provider is asked again, at most this often.
const DISCOVERY_PAUSE: Duration = Duration::from_secs(10);

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// How this cluster is known to a provider.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The provider's address, exactly as it writes it in its tokens.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// Our secret there; a client without one proves itself by PKCE alone.
    pub client_secret: Option<String>,
    /// Where the provider sends people back to.
    pub redirect_url: String,
}

/// A provider, asked for its addresses and keys when they are first needed.
pub struct Provider {
    registration: Registration,
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    http: Http,
    known: RwLock<Option<Known>>,
}

#[derive(Clone)]
struct Known {
    client: Arc<Client>,
    since: Instant,
}

/// A sign-in that begins. Everything but the address is to be kept, by us and by the browser that began it.
#[derive(Debug)]
pub struct Departure {
    /// Where the browser goes.
    pub url: String,
    /// What comes back with it, and shows that it is the same browser.
    pub state: String,
    /// What the token will name, so that none is used twice.
    pub nonce: String,
    /// What proves to the provider that whoever asks for the token began the sign-in.
    pub verifier: String,
}

/// A person at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The provider.
    pub issuer: String,
    /// Who it is there; never given to anybody else.
    pub subject: String,
    /// Only when the provider says that it has verified it.
    pub verified_email: Option<String>,
    /// As shown; may be empty.
    pub name: String,
}

/// Why a registration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// No address.
    #[error("`{0}` is no URL; write the provider's address as it writes it itself, such as https://id.example.org")]
    Issuer(String),
    /// No address to come back to.
    #[error("`{0}` is no URL; write https://HOST/auth/oidc/callback")]
    Redirect(String),
    /// Whoever listens would be who they want.
    #[error("`{0}` must begin with https://; only a provider on this machine may do without")]
    Plain(String),
    /// No client.
    #[error("cannot make a client for HTTPS: {0}")]
    Client(String),
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The provider is away, or is none.
    #[error("the provider cannot be reached or does not say how to sign in")]
    Discovery(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The code is not one of ours, was used, or is too old.
    #[error("the provider does not accept the code that it gave")]
    Code(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It gave no token, or one that is not for us.
    #[error("the provider's token does not prove who came")]
    Token(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Provider {
    /// A provider by registration. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When an address is none, or would be reached without TLS.
    pub fn new(registration: Registration) -> Result<Self, RegistrationError> {
        let issuer = IssuerUrl::new(registration.issuer.clone())
            .map_err(|_| RegistrationError::Issuer(registration.issuer.clone()))?;
        if !is_private(issuer.url()) {
            return Err(RegistrationError::Plain(registration.issuer));
        }
        let redirect = RedirectUrl::new(registration.redirect_url.clone())
            .map_err(|_| RegistrationError::Redirect(registration.redirect_url.clone()))?;
        let http = Http::new().map_err(|error| RegistrationError::Client(error.to_string()))?;
        Ok(Self { registration, issuer, redirect, http, known: RwLock::new(None) })
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// When the provider does not say how.
    pub async fn begin(&self) -> Result<Departure, Error> {
        let client = self.client(DISCOVERY_KEPT).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let scope = |name: &str| Scope::new(name.to_owned());
        let (url, state, nonce) = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scope(scope("email"))
            .add_scope(scope("profile"))
            .set_pkce_challenge(challenge)
            .url();
        Ok(Departure {
            url: url.to_string(),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
        })
    }

    /// Ends a sign-in: the code that the browser brought, for the person who came.
    ///
    /// # Errors
    /// When the provider does not know the code, or its token is not about this very sign-in.
    pub async fn finish(&self, code: String, nonce: String, verifier: String) -> Result<Person, Error> {
        let client = self.client(DISCOVERY_KEPT).await?;
        let asking = client.exchange_code(AuthorizationCode::new(code)).map_err(|e| Error::Discovery(e.into()))?;
        let asking = asking.set_pkce_verifier(PkceCodeVerifier::new(verifier));
        let answer = asking.request_async(&self.http).await.map_err(|e| Error::Code(e.into()))?;
        let nonce = Nonce::new(nonce);
        let known = match identify(&client, &answer, &nonce) {
            Ok(known) => known,
            // Its keys may be newer than what we know of them.
            Err(_) => {
                let fresh = self.client(DISCOVERY_PAUSE).await?;
                identify(&fresh, &answer, &nonce)?
            }
        };
        match known.verified_email {
            Some(_) => Ok(known),
            None => Ok(self.ask(&client, &answer, known).await),
        }
    }

    /// Providers may leave the address out of the token, and tell it only to who asks with it.
    async fn ask(&self, client: &Client, answer: &CoreTokenResponse, known: Person) -> Person {
        let subject = openidconnect::SubjectIdentifier::new(known.subject.clone());
        let Ok(asking) = client.user_info(answer.access_token().clone(), Some(subject)) else { return known };
        let said: Result<CoreUserInfoClaims, _> = asking.request_async(&self.http).await;
        match said {
            Ok(said) => person(&self.issuer, said.standard_claims()),
            Err(error) => {
                tracing::warn!(%error, "the provider does not tell the address of who came");
                known
            }
        }
    }

    /// What is known of the provider, when that is not older than `age`.
    async fn client(&self, age: Duration) -> Result<Arc<Client>, Error> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.since.elapsed() < age) {
            return Ok(known.client);
        }
        // Two at once ask twice, which harms nobody.
        let metadata = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await;
        let metadata = metadata.map_err(|e| Error::Discovery(e.into()))?;
        let secret = self.registration.client_secret.clone().map(ClientSecret::new);
        let id = ClientId::new(self.registration.client_id.clone());
        let client = CoreClient::from_provider_metadata(metadata, id, secret);
        let client = Arc::new(client.set_redirect_uri(self.redirect.clone()));
        let known = Known { client: client.clone(), since: Instant::now() };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(client)
    }
}

/// Reached by TLS, or not leaving this machine.
fn is_private(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    url.scheme() == "https" || matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// Who the token names, once its signature, issuer, audience, time and nonce are right.
fn identify(client: &Client, answer: &CoreTokenResponse, nonce: &Nonce) -> Result<Person, Error> {
    let token = answer.id_token().ok_or_else(|| Error::Token("it gave no ID token".into()))?;
    let verifier = client.id_token_verifier();
    let claims = token.claims(&verifier, nonce).map_err(|e| Error::Token(e.into()))?;
    if let Some(expected) = claims.access_token_hash() {
        let algorithm = token.signing_alg().map_err(|e| Error::Token(e.into()))?;
        let key = token.signing_key(&verifier).map_err(|e| Error::Token(e.into()))?;
        let found = AccessTokenHash::from_token(answer.access_token(), algorithm, key);
        if found.map_err(|e| Error::Token(e.into()))? != *expected {
            return Err(Error::Token("its access token is another one".into()));
        }
    }
    let standard = standard(claims);
    Ok(person(claims.issuer(), &standard))
}

type Claims = openidconnect::IdTokenClaims<EmptyAdditionalClaims, CoreGenderClaim>;

fn standard(claims: &Claims) -> StandardClaims<CoreGenderClaim> {
    StandardClaims::new(claims.subject().clone())
        .set_email(claims.email().cloned())
        .set_email_verified(claims.email_verified())
        .set_name(claims.name().cloned())
}

fn person(issuer: &IssuerUrl, claims: &StandardClaims<CoreGenderClaim>) -> Person {
    let verified = claims.email_verified() == Some(true);
    Person {
        issuer: issuer.to_string(),
        subject: claims.subject().to_string(),
        verified_email: claims.email().filter(|_| verified).map(|email| email.to_string()),
        name: claims.name().and_then(|name| name.get(None)).map(|name| name.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(issuer: &str, redirect: &str) -> Result<Provider, RegistrationError> {
        Provider::new(Registration {
            issuer: issuer.to_owned(),
            client_id: "orrery".to_owned(),
            client_secret: None,
            redirect_url: redirect.to_owned(),
        })
    }

    #[test]
    fn providers_are_reached_by_tls() {
        let back = "https://orrery.example.org/auth/oidc/callback";
        for good in ["https://id.example.org", "http://localhost:9000/realms/x", "http://127.0.0.1:1", "http://[::1]:1"]
        {
            assert!(provider(good, back).is_ok(), "{good}");
        }
        for bad in
            ["http://id.example.org", "http://localhost.example.org", "id.example.org", "", "ftp://id.example.org"]
        {
            assert!(provider(bad, back).is_err(), "{bad}");
        }
        assert!(matches!(provider("https://id.example.org", "back"), Err(RegistrationError::Redirect(_))));
    }

    #[tokio::test]
    async fn a_provider_that_is_away_is_said_to_be() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let provider = provider(&format!("http://{nobody}"), "http://127.0.0.1:1/auth/oidc/callback").unwrap();
        assert!(matches!(provider.begin().await, Err(Error::Discovery(_))));
    }
}
