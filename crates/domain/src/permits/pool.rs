//! Which pool a permit is of.

use crate::id::WorkspaceId;
use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// A pool of permits. Its workspace and its key say which one; another limit for the key makes no other pool of it, as the
/// database has one row for it.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The key that its units name; [`crate::limits::WORKSPACE`] for all units.
    pub key: Arc<str>,
    /// The limit that is defined for the key: its own name, or a pattern.
    pub limit: Arc<str>,
}

impl Pool {
    fn identity(&self) -> (WorkspaceId, &str) {
        (self.workspace, &self.key)
    }
}

impl PartialEq for Pool {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Pool {}

impl PartialOrd for Pool {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pool {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl Hash for Pool {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}
