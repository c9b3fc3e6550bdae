//! The stores where executors keep outputs, as far as this server may read them: the notes beside the outputs, and their
//! files on the way to somebody who asks for them. Refuses to write or remove anything there, and to know what a file of an
//! output means.

pub(crate) mod bytes;
mod download;

pub(crate) use download::download;

use crate::fault::Fault;
use blobs::{Access, Error, FileStream, Folders};
use domain::ErrorKind;
use domain::id::RunId;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// The file beside an attempt's outputs that tells about them; the runner writes at most this many bytes.
const PREVIEW: &str = "preview.json";
const PREVIEW_BYTES_MAX: u64 = 1 << 20;
/// The file that lists an attempt's outputs and their files; a larger one is not read.
const MANIFEST: &str = "manifest.json";
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Stores of projects that are kept open.
const STORES_MAX: usize = 256;

/// What the runner noted of an attempt's outputs.
#[derive(Debug, Deserialize)]
pub(crate) struct Preview {
    /// One for each output that has something to show.
    pub(crate) outputs: Vec<PreviewOf>,
}

/// What the runner noted of one output.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct PreviewOf {
    /// `output_0`, ….
    pub(crate) name: String,
    /// Name and type of each column of a table.
    #[serde(default)]
    pub(crate) columns: Vec<(String, String)>,
    /// First rows or items.
    #[serde(default)]
    pub(crate) sample: Vec<Value>,
    /// Of what is neither.
    #[serde(default)]
    pub(crate) text: String,
    /// All of it is in here.
    #[serde(default)]
    pub(crate) complete: bool,
}

/// What is stored of an attempt.
#[derive(Debug, Deserialize)]
struct Manifest {
    outputs: Vec<Stored>,
}

/// What is stored of one output.
#[derive(Debug, Deserialize)]
pub(crate) struct Stored {
    /// `output_0`, ….
    pub(crate) name: String,
    /// Mage's variable type.
    pub(crate) kind: String,
    /// Below the attempt's folder.
    pub(crate) files: Vec<String>,
}

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Blind {
    /// The cluster's own store is not known here.
    #[error("this server does not know where outputs are; set outputs_url to that of the executors")]
    Unknown,
    /// The project keeps its outputs somewhere else.
    #[error("the project keeps its outputs in {0}, which this server may not read; add it to project_outputs")]
    Foreign(String),
    /// The store.
    #[error("the store of outputs cannot be read: {0}")]
    Store(#[from] Error),
    /// The attempt left outputs but no note.
    #[error("nothing was noted about these outputs when they were written")]
    Nothing,
    /// The attempt left outputs, and they are not there.
    #[error(
        "the outputs are not where they were written; they were removed, or outputs_url is not that of the executors"
    )]
    Absent,
    /// The note is none.
    #[error("what was noted about these outputs cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// See the module's page.
pub(crate) struct OutputStores {
    own: Option<Folders>,
    allowed: Vec<String>,
    others: Mutex<HashMap<String, Folders>>,
}

impl OutputStores {
    /// The cluster's store, and the beginnings of addresses of others that may be read.
    ///
    /// # Errors
    /// On an address that is none.
    pub(crate) fn open(own: Option<&str>, allowed: &[String]) -> Result<Self, Error> {
        let own = own.map(|url| Folders::open(url, &Access::default())).transpose()?;
        Ok(Self { own, allowed: allowed.to_vec(), others: Mutex::default() })
    }

    /// What was noted of an attempt's outputs. `store` is empty for the cluster's own.
    pub(crate) async fn preview(&self, store: &str, folder: &str) -> Result<Preview, Blind> {
        let folders = self.folders(store)?;
        let note = folders.read(folder, PREVIEW, PREVIEW_BYTES_MAX).await?.ok_or(Blind::Nothing)?;
        Ok(serde_json::from_slice(&note)?)
    }

    /// What is stored of one of an attempt's outputs.
    async fn stored(&self, store: &str, folder: &str, name: &str) -> Result<Option<Stored>, Blind> {
        let manifest = self.folders(store)?.read(folder, MANIFEST, MANIFEST_BYTES_MAX).await?.ok_or(Blind::Absent)?;
        let manifest: Manifest = serde_json::from_slice(&manifest)?;
        Ok(manifest.outputs.into_iter().find(|stored| stored.name == name))
    }

    /// A file that is stored there.
    async fn content(&self, store: &str, folder: &str, file: &str) -> Result<FileStream, Blind> {
        self.folders(store)?.stream(folder, file).await?.ok_or(Blind::Absent)
    }

    fn folders(&self, store: &str) -> Result<Folders, Blind> {
        if store.is_empty() {
            return self.own.clone().ok_or(Blind::Unknown);
        }
        if !self.allowed.iter().any(|beginning| domain::unit::store_is_below(store, beginning)) {
            return Err(Blind::Foreign(store.to_owned()));
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = others.get(store) {
            return Ok(known.clone());
        }
        let opened = Folders::open(store, &Access::default())?;
        if others.len() >= STORES_MAX {
            others.clear();
        }
        others.insert(store.to_owned(), opened.clone());
        Ok(opened)
    }
}

/// The folder of an attempt below its store.
pub(crate) fn folder(run: RunId, block: &str, child: i32, lease: i64) -> String {
    domain::unit::output_folder(run, block, child, lease)
}

/// A block has left nothing at all.
pub(crate) fn nothing(run: RunId, block: &str, child: i32) -> Fault {
    let of = if child < 0 { String::new() } else { format!("child {child} of ") };
    let message =
        format!("{of}block `{block}` of run `{run}` has left nothing; it has not started, or is no block of it");
    Fault::new(ErrorKind::NotFound, "OUTPUT_NOT_FOUND", message)
}

/// A block has left something, and nothing of this name.
pub(crate) fn no_output(run: RunId, block: &str, name: &str) -> Fault {
    let message = format!("block `{block}` of run `{run}` left no output `{name}`");
    Fault::new(ErrorKind::NotFound, "OUTPUT_NOT_FOUND", message)
}
