//! What the settings and the files that they name say, read before anything is connected or changed: whoever made a mistake
//! there hears of it at once. Refuses to reach the database.

use crate::app::BuildError;
use crate::commands::Commands;
use crate::oidc_sign_in::Elsewhere;
use crate::outputs::OutputStores;
use crate::people;
use crate::settings::Settings;
use crate::storage_classes::StorageClasses;
use blobs::Blobs;
use oidc::{Provider, Registration};
use registry::Registries;
use rpc::auth::{self, Token};
use runtime::secret::Secret;
use secrets::Keyring;
use std::net::SocketAddr;
use std::time::Duration;
use store::audit;
use tonic::transport::Uri;

/// Settings that were looked at.
pub struct Given {
    database_url: Secret,
    /// The first owner's address.
    pub(crate) owner_email: String,
    /// What the operator presents.
    pub(crate) operator: Option<Token>,
    /// Where KEDA is served, and what it presents.
    pub(crate) scaler: Option<(SocketAddr, Option<Token>)>,
    /// The provider by which people may sign in, when one is named.
    pub(crate) elsewhere: Option<Elsewhere>,
    /// The schedulers.
    pub(crate) commands: Commands,
    /// Bundles.
    pub(crate) blobs: Blobs,
    /// What blocks leave.
    pub(crate) outputs: OutputStores,
    /// What seals secrets.
    pub(crate) keyring: Option<Keyring>,
    /// Who says what a tag of an image names.
    pub(crate) registries: Registries,
    /// How long entries of the trail are kept; zero is for ever.
    pub(crate) audit_kept: Duration,
    /// Of which kinds volumes may be.
    pub(crate) storage_classes: StorageClasses,
}

impl Given {
    /// Reads everything that can be wrong. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The first mistake; and when a folder that is named cannot be made.
    pub fn read(settings: &Settings) -> Result<Self, BuildError> {
        let database = Secret::given(settings.database_url_file.as_deref(), settings.database_url.as_deref())?;
        let database_url = database.ok_or(BuildError::Missing("database_url"))?;
        let email = people::email(&settings.owner_email, "owner_email");
        let blobs_url = settings.blobs_url.as_deref().ok_or(BuildError::Missing("blobs_url"))?;
        let commands = commands(settings)?;
        Ok(Self {
            database_url,
            owner_email: email.map_err(|fault| BuildError::Email(fault.0.message))?,
            operator: settings.token_file.as_deref().map(Token::from_file).transpose()?,
            scaler: settings.scaler_listen.map(|addr| scaler(settings, addr)).transpose()?,
            elsewhere: elsewhere(settings)?,
            outputs: OutputStores::open(settings.outputs_url.as_deref(), &settings.project_outputs, commands.clone())?,
            commands,
            blobs: Blobs::open(blobs_url)?,
            keyring: settings.secret_keys_file.as_deref().map(Keyring::from_file).transpose()?,
            audit_kept: audit_kept(settings)?,
            registries: Registries::new(settings.image_registries.iter().map(String::as_str))?,
            storage_classes: StorageClasses::new(&settings.storage_classes).map_err(BuildError::StorageClass)?,
        })
    }

    /// The URL of the database, for who migrates it.
    #[must_use]
    pub fn database_url(&self) -> &str {
        self.database_url.expose()
    }
}

fn audit_kept(settings: &Settings) -> Result<Duration, BuildError> {
    let kept = settings.audit_retention;
    if kept.is_zero() || kept >= audit::KEPT_MIN { Ok(kept) } else { Err(BuildError::AuditRetention) }
}

fn commands(settings: &Settings) -> Result<Commands, BuildError> {
    let uri = |url: &String| url.parse::<Uri>().map_err(|_| BuildError::Scheduler(url.clone()));
    let schedulers = settings.scheduler_urls.iter().map(uri).collect::<Result<Vec<_>, _>>()?;
    let cluster = settings.cluster_token_file.as_deref().map(Token::from_file).transpose()?;
    Ok(Commands::new(&schedulers, cluster.as_ref())?)
}

fn scaler(settings: &Settings, addr: SocketAddr) -> Result<(SocketAddr, Option<Token>), BuildError> {
    let token = settings.scaler_token_file.as_deref().map(Token::from_file).transpose()?;
    auth::require_auth_beyond_loopback(addr, token.is_some())?;
    Ok((addr, token))
}

fn elsewhere(settings: &Settings) -> Result<Option<Elsewhere>, BuildError> {
    let oidc = &settings.oidc;
    let Some(issuer) = oidc.issuer.clone() else { return Ok(None) };
    let secret = oidc.client_secret_file.as_deref().map(Secret::from_file).transpose()?;
    let provider = Provider::new(Registration {
        issuer,
        client_id: oidc.client_id.clone().ok_or(BuildError::Missing("oidc.client_id"))?,
        client_secret: secret.map(|secret| secret.expose().to_owned()),
        redirect_url: oidc.redirect_url.clone().ok_or(BuildError::Missing("oidc.redirect_url"))?,
    })?;
    let domains = oidc.email_domains.iter().map(|domain| domain.trim_start_matches('@').to_lowercase()).collect();
    Ok(Some(Elsewhere { provider, name: oidc.name.clone(), domains }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trail_is_kept_for_a_month_at_least_or_for_ever() {
        let kept = |kept: Duration| audit_kept(&Settings { audit_retention: kept, ..Settings::default() });
        for good in [Duration::ZERO, audit::KEPT_MIN, Settings::default().audit_retention] {
            assert_eq!(kept(good).unwrap(), good);
        }
        assert!(kept(audit::KEPT_MIN - Duration::from_secs(1)).unwrap_err().is_usage());
    }
}
