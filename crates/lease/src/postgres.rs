//! Leases as rows. One row tells until when an owner lives, so that prolonging a hundred names writes one row.

use crate::{Error, Locks};
use std::time::Duration;
use store::Store;
use uuid::Uuid;

/// Keeps leases in the database that everything else is in.
#[derive(Clone)]
pub struct Postgres {
    store: Store,
}

impl Postgres {
    /// In this database.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

impl Locks for Postgres {
    async fn hold(&self, owner: Uuid, names: &[String], ttl: Duration) -> Result<Vec<bool>, Error> {
        let held = store::leases::hold(&self.store, owner, names, ttl).await?;
        Ok(names.iter().map(|name| held.contains(name)).collect())
    }

    async fn release(&self, owner: Uuid, names: &[String]) -> Result<(), Error> {
        Ok(store::leases::release(&self.store, owner, names).await?)
    }
}
