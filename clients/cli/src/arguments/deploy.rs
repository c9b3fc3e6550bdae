//! `orrery deploy`.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// The Mage project folder
    pub(crate) directory: PathBuf,
    /// Parse and report, change nothing
    #[arg(long)]
    pub(crate) validate_only: bool,
    /// Archive all pipelines of the workspace where the folder holds none; without it such a folder is refused
    #[arg(long)]
    pub(crate) empty: bool,
}
