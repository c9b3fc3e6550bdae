//! Mutations of definitions that may be sent twice: the second request with a key gets the first one's answer. Refuses
//! to know what is mutated.

use crate::fault::Fault;
use crate::identity::Caller;
use domain::ErrorKind;
use prost::Message;
use sha2::{Digest, Sha256};
use store::idempotency::{self, Claim};
use store::{Store, Transaction};

/// The longest key that a client may choose.
pub(crate) const KEY_CHARS_MAX: usize = 200;
/// How long an answer is remembered.
pub(crate) const KEPT_DAYS: i32 = 7;

/// A client's key for one request; empty when the client chose none.
pub(crate) struct Key {
    method: &'static str,
    key: String,
    hash: Vec<u8>,
}

/// Refuses a key that cannot be stored.
pub(crate) fn check(key: &str) -> Result<(), Fault> {
    if key.len() > KEY_CHARS_MAX {
        return Err(Fault::field("idempotency_key", format!("must have at most {KEY_CHARS_MAX} bytes")));
    }
    if key.contains('\0') {
        return Err(Fault::field("idempotency_key", "must hold no NUL"));
    }
    Ok(())
}

impl Key {
    /// The key of a person's request of a method. Two people may choose the same key: neither learns of the other.
    pub(crate) fn of(caller: &Caller, method: &'static str, key: &str, request: &impl Message) -> Result<Self, Fault> {
        check(key)?;
        let key = if key.is_empty() { String::new() } else { format!("{}/{key}", caller.user.id) };
        Ok(Self { method, key, hash: Sha256::digest(request.encode_to_vec()).to_vec() })
    }

    /// No key: each request is one of its own.
    pub(crate) const fn none(method: &'static str) -> Self {
        Self { method, key: String::new(), hash: Vec::new() }
    }

    /// As the client chose it.
    pub(crate) fn chosen(&self) -> &str {
        self.key.split_once('/').map_or("", |(_, chosen)| chosen)
    }

    /// What names the request elsewhere: the key, or what nobody else has.
    pub(crate) fn unique(&self) -> String {
        if self.key.is_empty() { uuid::Uuid::now_v7().to_string() } else { self.key.clone() }
    }

    /// The answer that was given before. Holds the key until the transaction ends.
    pub(crate) async fn answered<M: Message + Default>(&self, db: &Transaction<'_>) -> Result<Option<M>, Fault> {
        if self.key.is_empty() {
            return Ok(None);
        }
        match idempotency::claim(db, self.method, &self.key, &self.hash).await? {
            Claim::New => Ok(None),
            Claim::Answered(answer) => M::decode(answer.as_slice()).map(Some).map_err(|e| Fault::internal(&e)),
            Claim::Reused => Err(Fault::new(
                ErrorKind::AlreadyExists,
                "IDEMPOTENCY_KEY_REUSED",
                "the idempotency key was used with another request; choose a new one",
            )),
        }
    }

    /// The answer that was given before. Holds nothing: for acts that are no transaction, which ask [`answered`](Self::answered)
    /// again in the one that records theirs.
    pub(crate) async fn answer<M: Message + Default>(&self, store: &Store) -> Result<Option<M>, Fault> {
        if self.key.is_empty() {
            return Ok(None);
        }
        let mut db = store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        self.answered(&transaction).await
    }

    /// Remembers the answer, in the transaction of the act.
    pub(crate) async fn record(&self, db: &Transaction<'_>, answer: &impl Message) -> Result<(), Fault> {
        if self.key.is_empty() {
            return Ok(());
        }
        Ok(idempotency::record(db, self.method, &self.key, &self.hash, &answer.encode_to_vec()).await?)
    }

    /// Remembers the answer to an act of somebody else, which is done by now and finds its repetition by a key of its own.
    /// No transaction is open while such an act is under way: it may take longer than one is let stand idle.
    pub(crate) async fn remember<M: Message + Default>(&self, store: &Store, answer: &M) -> Result<(), Fault> {
        if self.key.is_empty() {
            return Ok(());
        }
        let mut db = store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        // The same request may have come twice at once.
        if self.answered::<M>(&transaction).await?.is_none() {
            self.record(&transaction, answer).await?;
        }
        Ok(transaction.commit().await.map_err(store::Error::from)?)
    }
}
