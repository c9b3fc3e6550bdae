//! Secrets on their way in. Refuses to answer a value: nobody reads one back, not even who set it.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::notification_seals;
use crate::paging::Page;
use domain::ErrorKind;
use domain::id::SecretId;
use proto::internal::v1::RewrapAccessKeysRequest;
use proto::v1::{
    self, DeleteSecretRequest, DeleteSecretResponse, ListSecretsRequest, ListSecretsResponse, RotateSecretsRequest,
    RotateSecretsResponse, SecretScope, SetSecretRequest, SetSecretResponse, secret_service_server::SecretService,
};
use secrets::{Keyring, Place, Sealed as Sealing};
use std::sync::Arc;
use store::secrets::{self as rows, Scope, Sealed, Secret, Summary};
use store::targets::{self, Thing};
use store::{access_keys, notifications};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.SecretService`.
pub(crate) struct Secrets(pub(crate) Arc<Core>);

/// The largest value.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// The longest name.
const NAME_CHARS_MAX: usize = 128;
/// The longest name of a pipeline, which need not be there yet.
const PIPELINE_BYTES_MAX: usize = 512;
/// The most secrets of one project, in all its scopes.
const SECRETS_MAX: i64 = 2_000;
/// Secrets that one call seals anew, when nobody says and at most.
const ROTATE_DEFAULT: i64 = 100;
const ROTATE_MAX: i64 = 1_000;
/// Keys that are missing, of one answer.
const MISSING_MAX: i64 = 100;

fn check_name(name: &str) -> Result<(), Fault> {
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if begins && name.len() <= NAME_CHARS_MAX && name.chars().all(inner) {
        return Ok(());
    }
    let rule = "must have 1 to 128 letters, digits, `_`, `.` and `-`, and begin with a letter or `_`";
    Err(Fault::field("name", rule))
}

fn message(scope: SecretScope, row: Summary) -> v1::Secret {
    v1::Secret {
        scope: Some(scope),
        name: row.name,
        version: row.version,
        created_at: Some(rpc::timestamp::to_proto(row.created_at)),
        updated_at: Some(rpc::timestamp::to_proto(row.updated_at)),
        updated_by: row.updated_by,
        key_id: row.key_id,
    }
}

pub(crate) fn refused(error: &secrets::Error) -> Fault {
    match error.kind() {
        ErrorKind::Internal => Fault::internal(error),
        kind => Fault::new(kind, "UNKNOWN_KEY", error.to_string()),
    }
}

/// Nothing secret is kept where nothing can be sealed.
pub(crate) fn no_keys() -> Fault {
    let message = "this cluster keeps no secrets; give its web-servers and schedulers a `secret_keys_file`";
    Fault::new(ErrorKind::FailedPrecondition, "SECRETS_OFF", message)
}

impl Secrets {
    fn keyring(&self) -> Result<&Keyring, Fault> {
        self.0.keyring.as_ref().ok_or_else(no_keys)
    }

    /// The scope that a request names; the authorisation found it before, by the same fields.
    async fn scope(&self, scope: Option<SecretScope>) -> Result<(Scope, SecretScope), Fault> {
        let scope = scope.unwrap_or_default();
        let thing = match (scope.project.as_str(), scope.workspace.as_str(), scope.pipeline.as_str()) {
            ("", "", _) => return Err(Fault::field("scope", "must name a project or a workspace")),
            (project, "", "") => Thing::Project(project),
            ("", workspace, _) => Thing::Workspace(workspace),
            (_, "", _) => return Err(Fault::field("scope.pipeline", "must come with its workspace")),
            _ => return Err(Fault::field("scope", "must name a project or a workspace, not both")),
        };
        let db = self.0.store.client().await?;
        let target = targets::find(&db, thing, None).await?.ok_or_else(|| match thing {
            Thing::Project(name) => Fault::no_project(name),
            _ => Fault::no_workspace(&scope.workspace),
        })?;
        let found = Scope { project: target.project, workspace: target.workspace, pipeline: scope.pipeline.clone() };
        Ok((found, scope))
    }

    async fn set(&self, caller: &Caller, request: SetSecretRequest) -> Result<v1::Secret, Fault> {
        check_name(&request.name)?;
        if request.value.is_empty() || request.value.len() > VALUE_BYTES_MAX {
            return Err(Fault::field("value", format!("must have 1 to {VALUE_BYTES_MAX} bytes")));
        }
        let keyring = self.keyring()?;
        let (scope, named) = self.scope(request.scope).await?;
        if scope.pipeline.len() > PIPELINE_BYTES_MAX {
            return Err(Fault::field("scope.pipeline", format!("must have at most {PIPELINE_BYTES_MAX} bytes")));
        }
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let known = rows::lock_version(&transaction, &scope, &request.name).await?;
        if known.is_none() && rows::count(&transaction, scope.project).await? >= SECRETS_MAX {
            let message = format!("a project has at most {SECRETS_MAX} secrets; delete some");
            return Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_SECRETS", message));
        }
        let version = known.map_or(0, |(version, _)| version) + 1;
        let text = scope.text();
        let place = Place { scope: &text, name: &request.name, version };
        let sealed = keyring.seal(&place, request.value.as_bytes()).map_err(|e| refused(&e))?;
        let secret = Secret {
            id: SecretId(uuid::Uuid::now_v7()),
            scope,
            name: request.name,
            version,
            sealed: Sealed { key_id: sealed.key_id, wrapped_key: sealed.wrapped_key, value: sealed.value },
        };
        if known.is_none() {
            rows::insert(&transaction, &secret, caller.user.id).await.map_err(meanwhile)?;
        } else if !rows::update(&transaction, &secret, caller.user.id).await? {
            return Err(changed());
        }
        transaction.commit().await.map_err(store::Error::from)?;
        let now = jiff::Timestamp::now();
        let summary = Summary {
            pipeline: secret.scope.pipeline,
            name: secret.name,
            version,
            created_at: known.map_or(now, |(_, created_at)| created_at),
            updated_at: now,
            updated_by: caller.user.email.clone(),
            key_id: secret.sealed.key_id,
        };
        Ok(message(named, summary))
    }

    async fn list(&self, request: ListSecretsRequest) -> Result<ListSecretsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let (scope, named) = self.scope(request.scope).await?;
        let token_scope = format!("secrets/{}", scope.text());
        let after: (String, String) = rpc::paging::decode(&token_scope, &request.page_token)?.unwrap_or_default();
        let db = self.0.store.client().await?;
        let mut found = rows::list(&db, &scope, (&after.0, &after.1), page.limit()).await?;
        let next_page_token = page.cut(&token_scope, &mut found, |row| (row.pipeline.clone(), row.name.clone()))?;
        let secret = |row: Summary| message(SecretScope { pipeline: row.pipeline.clone(), ..named.clone() }, row);
        Ok(ListSecretsResponse { secrets: found.into_iter().map(secret).collect(), next_page_token })
    }

    async fn delete(&self, request: DeleteSecretRequest) -> Result<(), Fault> {
        let (scope, _) = self.scope(request.scope).await?;
        if rows::delete(&self.0.store.client().await?, &scope, &request.name).await? {
            return Ok(());
        }
        let message = "there is no such secret in this scope; `orrery secrets` lists them";
        Err(Fault::new(ErrorKind::NotFound, "SECRET_NOT_FOUND", message))
    }

    async fn rotate(&self, limit: i32) -> Result<RotateSecretsResponse, Fault> {
        let keyring = self.keyring()?;
        let limit = match i64::from(limit) {
            0 => ROTATE_DEFAULT,
            limit if (1..=ROTATE_MAX).contains(&limit) => limit,
            _ => return Err(Fault::field("limit", format!("must be 1 to {ROTATE_MAX}"))),
        };
        let key_id = keyring.current().to_owned();
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        // What a key seals that is not here cannot be opened, and keeps nothing else from being sealed anew.
        let former = keyring.former();
        let stale = rows::lock_stale(&transaction, &former, limit).await?;
        let configs = notifications::lock_stale(&transaction, &former, limit).await?;
        let rotated = i64::try_from(stale.len() + configs.len()).unwrap_or(i64::MAX);
        for secret in stale {
            rows::rewrap(&transaction, &rewrapped(keyring, secret)?).await?;
        }
        for config in configs {
            let (shown, seal) = notification_seals::reseal(keyring, &config)?;
            notifications::reseal(&transaction, &config, &shown, &seal).await?;
        }
        transaction.commit().await.map_err(store::Error::from)?;
        drop(db);
        let rotated = rotated + self.rotate_access_keys(&key_id, limit).await?;
        let db = self.0.store.client().await?;
        let remaining = rows::count_stale(&db, &key_id).await?
            + notifications::count_stale(&db, &key_id).await?
            + access_keys::count_stale(&db, &Sealing::begins(&key_id)).await?;
        let known = [former, vec![keyring.current()]].concat();
        let missing_key_ids = rows::other_keys(&db, &known, MISSING_MAX).await?;
        Ok(RotateSecretsResponse { rotated, remaining, key_id, missing_key_ids })
    }

    /// Those of applications lie with the runtimes, which schedulers write.
    async fn rotate_access_keys(&self, key_id: &str, limit: i64) -> Result<i64, Fault> {
        if access_keys::count_stale(&self.0.store.client().await?, &Sealing::begins(key_id)).await? == 0 {
            return Ok(0);
        }
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        self.0.commands.rewrap_access_keys(RewrapAccessKeysRequest { key_id: key_id.to_owned(), limit }).await
    }
}

fn rewrapped(keyring: &Keyring, secret: Secret) -> Result<Secret, Fault> {
    let text = secret.scope.text();
    let place = Place { scope: &text, name: &secret.name, version: secret.version };
    let Sealed { key_id, wrapped_key, value } = secret.sealed;
    let sealed = keyring.rewrap(&place, &Sealing { key_id, wrapped_key, value }).map_err(|e| refused(&e))?;
    let sealed = Sealed { key_id: sealed.key_id, wrapped_key: sealed.wrapped_key, value: sealed.value };
    Ok(Secret { sealed, ..secret })
}

/// Two people who add one secret at once.
fn meanwhile(error: store::Error) -> Fault {
    if error.kind() == ErrorKind::AlreadyExists { changed() } else { error.into() }
}

fn changed() -> Fault {
    Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", "somebody else set this secret meanwhile; try again")
}

#[async_trait]
impl SecretService for Secrets {
    async fn set_secret(&self, request: Request<SetSecretRequest>) -> Result<Response<SetSecretResponse>, Status> {
        let caller = Caller::of(&request)?;
        let secret = self.set(&caller, request.into_inner()).await?;
        Ok(Response::new(SetSecretResponse { secret: Some(secret) }))
    }

    async fn list_secrets(
        &self,
        request: Request<ListSecretsRequest>,
    ) -> Result<Response<ListSecretsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn delete_secret(
        &self,
        request: Request<DeleteSecretRequest>,
    ) -> Result<Response<DeleteSecretResponse>, Status> {
        self.delete(request.into_inner()).await?;
        Ok(Response::new(DeleteSecretResponse {}))
    }

    async fn rotate_secrets(
        &self,
        request: Request<RotateSecretsRequest>,
    ) -> Result<Response<RotateSecretsResponse>, Status> {
        Ok(Response::new(self.rotate(request.get_ref().limit).await?))
    }
}
