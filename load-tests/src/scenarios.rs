//! One file per scenario.

pub(crate) mod backfill;
pub(crate) mod chain;
pub(crate) mod devices;
pub(crate) mod fanout;
pub(crate) mod first_line;
pub(crate) mod flood;
pub(crate) mod herd;
pub(crate) mod idle;
pub(crate) mod idle_triggers;
pub(crate) mod independent;
pub(crate) mod logs;
pub(crate) mod openb;
pub(crate) mod peers;
pub(crate) mod placements;
pub(crate) mod python;
pub(crate) mod replicas;
pub(crate) mod soak;
pub(crate) mod workspace_start;
