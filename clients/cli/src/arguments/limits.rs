//! What can be typed after `orrery limits`.

use clap::Subcommand;

/// Without one of these, limits are listed.
#[derive(Debug, Subcommand)]
pub(crate) enum Limits {
    /// List them
    List,
    /// Define one, or change it
    Set {
        /// `workspace` for every block, a key that blocks name, or the beginning of keys with a `*` after it
        name: String,
        /// Blocks at once
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        blocks: u32,
    },
    /// Remove one
    Remove {
        /// Its name
        name: String,
    },
}
