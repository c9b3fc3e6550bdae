//! Seals the keys of applications anew when the cluster's keys change. Refuses to know who asked, and to touch anything
//! else of a runtime.
//!
//! Nothing owns this act: a seal is replaced only where the former one is still there, so schedulers that do it at once,
//! and placers that begin new lives meanwhile, disturb nobody. Placers keep the former seal in memory and open it with the
//! former key, which their process has until it is started again.

use crate::placer::PlacerError;
use secrets::{Keyring, Sealed};
use store::{
    Store,
    access_keys::{self, Key},
};

/// Keys that one call seals anew, at most.
pub const LIMIT_MAX: i64 = 1_000;

/// Seals at most `limit` keys with `key_id`; answers how many. One that does not open is left as it is, and told in the log.
///
/// # Errors
/// When this scheduler seals with another key, or the database does not answer.
pub async fn rewrap(
    store: &Store,
    keyring: Option<&Keyring>,
    (key_id, limit): (&str, i64),
) -> Result<u64, PlacerError> {
    let keyring = keyring.filter(|keyring| keyring.current() == key_id).ok_or_else(|| {
        let own = keyring.map_or("none", Keyring::current);
        let sentence = format!(
            "this scheduler seals with the key `{own}` and the web-server with `{key_id}`; give both the same \
             secret_keys_file and start them again"
        );
        PlacerError::denied("OTHER_KEY", sentence)
    })?;
    let unavailable = |error: store::Error| {
        tracing::warn!(error = runtime::exit::chain(&error), "failed to seal the keys of applications anew");
        PlacerError::Unavailable
    };
    let db = store.client().await.map_err(unavailable)?;
    let stale = access_keys::stale(&db, &Sealed::begins(key_id), limit).await.map_err(unavailable)?;
    let rewrapped: Vec<_> = stale.into_iter().filter_map(|key| anew(keyring, key)).collect();
    access_keys::rewrap(&db, &rewrapped).await.map_err(unavailable)
}

fn anew(keyring: &Keyring, key: Key) -> Option<(Key, Vec<u8>)> {
    let workspace = key.workspace.to_string();
    let sealed = Sealed::from_bytes(&key.sealed)
        .and_then(|sealed| keyring.rewrap(&secrets::access_key(&workspace, key.number), &sealed));
    match sealed {
        Ok(sealed) => Some((key, sealed.to_bytes())),
        Err(error) => {
            tracing::warn!(workspace, %error, "the key of an application stays under another of the cluster's keys");
            None
        }
    }
}
