//! Large contents in parts: each part is written whole under its digest, below the id of what it belongs to, so that an
//! upload which breaks off keeps what it has, and all of it can be removed without asking who else has the same bytes.
//!
//! Refuses to know which parts there are and in which order: callers keep that.

use crate::{Blobs, Error, digest};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{ObjectStoreExt, PutPayload, path::Path};

/// The longest id that parts may lie below.
const OWNER_BYTES_MAX: usize = 64;

impl Blobs {
    /// Stores a part and answers its digest. The same part again changes nothing. It is visible whole or not at all, also
    /// when the future is dropped.
    ///
    /// # Errors
    /// When `owner` is no id, or the part cannot be stored.
    pub async fn put_part(&self, owner: &str, content: Bytes) -> Result<String, Error> {
        let sha256 = digest_of(&content);
        let at = part_path(owner, &sha256)?;
        let stored = self.store.put(&at, PutPayload::from(content)).await;
        stored.map_err(|error| Error::store("part", &sha256, error))?;
        Ok(sha256)
    }

    /// A part, when it still is what its digest says.
    ///
    /// # Errors
    /// When it is not stored or was damaged, or the store fails.
    pub async fn get_part(&self, owner: &str, sha256: &str) -> Result<Bytes, Error> {
        let failed = |error| Error::store("part", sha256, error);
        let found = self.store.get(&part_path(owner, sha256)?).await.map_err(failed)?;
        let content = found.bytes().await.map_err(failed)?;
        let digest = digest_of(&content);
        if digest == sha256 { Ok(content) } else { Err(Error::Corrupt { digest: sha256.to_owned(), found: digest }) }
    }

    /// Removes every part below an id; none is no error.
    ///
    /// # Errors
    /// When the store fails; what is left is removed by the next call.
    pub async fn remove_parts(&self, owner: &str) -> Result<(), Error> {
        let failed = |error| Error::store("part", owner, error);
        let below = self.store.list(Some(&folder(owner)?)).map_ok(|found| found.location).boxed();
        let mut removed = self.store.delete_stream(below);
        while let Some(part) = removed.next().await {
            match part {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

fn digest_of(content: &[u8]) -> String {
    let mut hasher = digest::Hasher::default();
    hasher.update(content);
    hasher.finish()
}

fn folder(owner: &str) -> Result<Path, Error> {
    let is_id = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if owner.is_empty() || owner.len() > OWNER_BYTES_MAX || !owner.bytes().all(is_id) {
        return Err(Error::Path { path: owner.chars().take(OWNER_BYTES_MAX).collect(), reason: "is no id" });
    }
    Ok(Path::from(format!("parts/{owner}")))
}

fn part_path(owner: &str, sha256: &str) -> Result<Path, Error> {
    Ok(folder(owner)?.join(digest::checked(sha256)?))
}
