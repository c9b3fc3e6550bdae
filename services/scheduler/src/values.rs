//! Secrets in clear, for as long as somebody holds the answer: no error of this module holds any of one. Refuses to judge
//! who may see which.

use secrets::{Keyring, Place, Sealed};
use store::secrets::Secret;

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
