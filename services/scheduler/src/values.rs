//! Secrets in clear, for as long as somebody holds the answer: no error of this module holds any of one. Refuses to judge
//! who may see which.

use domain::id::RunId;
use secrets::{Keyring, Place, Sealed};
use std::collections::{BTreeMap, HashMap};
use store::{
    Store,
    secrets::{self as rows, Secret},
};

/// Values by name.
pub(crate) type Values = BTreeMap<String, String>;

/// The secrets that say where the outputs of these runs are, for executors that write, read or remove them. One that no key
/// opens is left out, with a warning: where it is needed, the executor says that it is not there.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn of_places(
    store: &Store,
    keyring: Option<&Keyring>,
    runs: &[RunId],
) -> Result<HashMap<RunId, Values>, store::Error> {
    let mut values: HashMap<RunId, Values> = HashMap::new();
    for (run, secret) in rows::list_for_place(&store.client().await?, runs).await? {
        let name = secret.name.clone();
        match open(keyring, secret) {
            Ok(value) => drop(values.entry(run).or_default().insert(name, value)),
            Err(error) => tracing::warn!(%run, error, "failed to open a secret that says where outputs are"),
        }
    }
    Ok(values)
}

/// The value of a stored secret.
///
/// # Errors
/// When this scheduler has no key that opens it, or it is no text; names the secret.
pub(crate) fn open(keyring: Option<&Keyring>, secret: Secret) -> Result<String, String> {
    let keyring = keyring.ok_or("this cluster keeps no secrets: its scheduler has no secret_keys_file")?;
    let scope = secret.scope.text();
    let place = Place { scope: &scope, name: &secret.name, version: secret.version };
    let store::secrets::Sealed { key_id, wrapped_key, value } = secret.sealed;
    let opened = keyring.open(&place, &Sealed { key_id, wrapped_key, value });
    let opened = opened.map_err(|error| format!("the secret `{}`: {error}", secret.name))?;
    let text = std::str::from_utf8(&opened).map_err(|_| format!("the secret `{}` is no text", secret.name))?;
    Ok(text.to_owned())
}
