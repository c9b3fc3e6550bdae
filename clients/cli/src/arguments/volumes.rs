//! What can be typed after `orrery volumes`.

use super::amounts;
use clap::Subcommand;

/// Without one of these, volumes are listed.
#[derive(Debug, Subcommand)]
pub(crate) enum Volumes {
    /// List them, with the runtimes that mount them
    List,
    /// Make one; its size counts for the project's quota of storage
    Create {
        /// Its name, by which runtimes mount it: `workspaces set --mount NAME:/path`
        name: String,
        /// Its size, such as 20GiB
        #[arg(long, value_parser = amounts::bytes, value_name = "BYTES")]
        size: i64,
        /// Runtimes whose queues are served from this pool may mount it
        #[arg(long, default_value = "default")]
        pool: String,
        /// Its storage class on Kubernetes, one of those that operators allow; nothing changes it later
        #[arg(long, value_name = "NAME")]
        class: Option<String>,
    },
    /// Make one larger; none gets smaller
    Grow {
        /// Its name
        name: String,
        /// Its size from now on, such as 40GiB
        #[arg(long, value_parser = amounts::bytes, value_name = "BYTES")]
        size: i64,
    },
    /// Take one away, with all files in it; refused while a runtime that is not stopped mounts it
    Delete {
        /// Its name
        name: String,
    },
}
