//! Configurations of notifications on their way into the table: addresses of receivers are secrets, so what lies there in
//! clear has none. Refuses to open a seal for anybody but its own renewal.

use crate::fault::Fault;
use crate::services::secrets::{no_keys, refused};
use secrets::{Keyring, Place};
use serde_json::Value;
use store::notifications::{Configured, SEAL_NAME, SealedConfig, scope};
use store::secrets::Sealed;

/// What is shown of a configuration, and all of it sealed; a configuration without secrets needs no seal.
pub(crate) fn seal(
    keyring: Option<&Keyring>,
    scope: &str,
    version: i64,
    config: &Value,
) -> Result<(Value, Option<Sealed>), Fault> {
    let shown = notify::config::redact(config);
    if shown == *config && keyring.is_none() {
        return Ok((shown, None));
    }
    let place = Place { scope, name: SEAL_NAME, version };
    let sealed = keyring.ok_or_else(no_keys)?.seal(&place, config.to_string().as_bytes());
    Ok((shown, Some(stored(sealed.map_err(|e| refused(&e))?))))
}

/// The same configuration under the first key; what lies in clear is sealed.
pub(crate) fn reseal(keyring: &Keyring, of: &Configured) -> Result<(Value, Sealed), Fault> {
    let Some(SealedConfig { scope, version, seal: old }) = &of.sealed else {
        let scope = scope(of.workspace, of.pipeline);
        let (shown, sealed) = seal(Some(keyring), &scope, of.version, &of.config)?;
        return Ok((shown, sealed.ok_or_else(no_keys)?));
    };
    let place = Place { scope, name: SEAL_NAME, version: *version };
    let Sealed { key_id, wrapped_key, value } = old.clone();
    let sealed = keyring.rewrap(&place, &secrets::Sealed { key_id, wrapped_key, value }).map_err(|e| refused(&e))?;
    Ok((of.config.clone(), stored(sealed)))
}

fn stored(sealed: secrets::Sealed) -> Sealed {
    Sealed { key_id: sealed.key_id, wrapped_key: sealed.wrapped_key, value: sealed.value }
}
