//! What can be typed after `orrery models`.

use clap::Subcommand;
use std::path::PathBuf;

/// Without one of these, models are listed.
#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    /// Send a file as the next version of a model; goes on where it was cut short
    Upload {
        /// The file
        file: PathBuf,
        /// The model, a DNS label [default: made from the file's name]
        #[arg(long)]
        name: Option<String>,
    },
    /// List those of the workspace
    List,
    /// List the versions of a model, newest first
    Show {
        /// Its name
        name: String,
    },
    /// Fetch a version and compare its SHA-256
    Download {
        /// The model's name, or the id of one of its versions
        model: String,
        /// Where to [default: the version's own file name, in this folder]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Take a model out of lists; its versions stay
    Archive {
        /// Its name
        name: String,
    },
}
