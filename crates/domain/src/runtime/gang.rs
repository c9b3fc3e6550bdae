//! Runtimes that start all together or not at all. Refuses to know where, and who asked for them.

use crate::id::GangId;
use serde::{Deserialize, Serialize};

/// Members of one gang.
pub const GANG_MAX: u32 = 64;

/// What ties a runtime to others. All members carry the same value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gang {
    /// Which.
    pub id: GangId,
    /// How many members there are; nothing starts before all of them wait or run.
    pub size: u32,
    /// All in one zone.
    pub one_zone: bool,
}
