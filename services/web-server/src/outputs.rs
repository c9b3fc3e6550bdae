//! What executors keep of outputs: the notes beside them, and their files on the way to somebody who asks for them. The stores
//! that this server may open it reads itself, the others by way of executors, who have the projects' keys. Refuses to write or
//! remove anything there, and to know what a file of an output means.

pub(crate) mod bytes;
mod download;
mod executors;

pub(crate) use download::download;

use crate::commands::Commands;
use crate::fault::Fault;
use ::bytes::Bytes;
use blobs::{Access, Error, Folders};
use domain::id::RunId;
use domain::{ErrorKind, references, unit};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use proto::internal::v1::AttemptRef;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};
use store::outputs::Pointer;

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
    /// The project keeps its outputs somewhere else, and no executor reads them.
    #[error(
        "the project keeps its outputs in {store}, which is not in this server's project_outputs, so that executors read \
             them: {why}"
    )]
    Executors {
        /// As it was noted.
        store: String,
        /// In words that hold no secret.
        why: String,
    },
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

/// What an attempt left, and where.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    run: RunId,
    block: String,
    child: i32,
    lease: i64,
    /// The address as it was noted, with the names of secrets in it; empty for the cluster's own.
    store: String,
}

impl Left {
    /// What counts of a block, or of one of its children.
    pub(crate) fn of(run: RunId, block: &str, child: i32, pointer: &Pointer) -> Self {
        let store = pointer.output.as_ref().map(|output| output.store.clone()).unwrap_or_default();
        Self { run, block: block.to_owned(), child, lease: pointer.lease, store }
    }

    /// Its folder below its store.
    fn folder(&self) -> String {
        unit::output_folder(self.run, &self.block, self.child, self.lease)
    }

    fn attempt(&self) -> AttemptRef {
        let (block, child, lease) = (self.block.clone(), self.child, self.lease);
        AttemptRef { run_id: self.run.to_vec(), block, child, lease }
    }
}

/// A file as it comes.
struct Content {
    bytes: u64,
    chunks: BoxStream<'static, Result<Bytes, Blind>>,
}

/// See the module's page.
pub(crate) struct OutputStores {
    commands: Commands,
    own: Option<Folders>,
    allowed: Vec<String>,
    others: Mutex<HashMap<String, Folders>>,
}

impl OutputStores {
    /// The cluster's store, the beginnings of addresses of others that this server may read, and the way to executors.
    ///
    /// # Errors
    /// On an address that is none.
    pub(crate) fn open(own: Option<&str>, allowed: &[String], commands: Commands) -> Result<Self, Error> {
        let own = own.map(|url| Folders::open(url, &Access::default())).transpose()?;
        Ok(Self { commands, own, allowed: allowed.to_vec(), others: Mutex::default() })
    }

    /// What was noted of an attempt's outputs.
    pub(crate) async fn preview(&self, left: &Left) -> Result<Preview, Blind> {
        let note = self.read(left, PREVIEW, PREVIEW_BYTES_MAX).await?.ok_or(Blind::Nothing)?;
        Ok(serde_json::from_slice(&note)?)
    }

    /// What is stored of one of an attempt's outputs.
    async fn stored(&self, left: &Left, name: &str) -> Result<Option<Stored>, Blind> {
        let manifest = self.read(left, MANIFEST, MANIFEST_BYTES_MAX).await?.ok_or(Blind::Absent)?;
        let manifest: Manifest = serde_json::from_slice(&manifest)?;
        Ok(manifest.outputs.into_iter().find(|stored| stored.name == name))
    }

    async fn read(&self, left: &Left, file: &str, bytes_max: u64) -> Result<Option<Bytes>, Blind> {
        match self.folders(&left.store)? {
            Some(folders) => Ok(folders.read(&left.folder(), file, bytes_max).await?),
            None => executors::read(&self.commands, left, file, bytes_max).await,
        }
    }

    /// A file that is stored there.
    async fn content(&self, left: &Left, file: &str) -> Result<Content, Blind> {
        let content = match self.folders(&left.store)? {
            Some(folders) => folders
                .stream(&left.folder(), file)
                .await?
                .map(|file| Content { bytes: file.bytes, chunks: file.chunks.map_err(Blind::Store).boxed() }),
            None => executors::stream(&self.commands, left, file).await?,
        };
        content.ok_or(Blind::Absent)
    }

    /// `None` for one that executors read.
    fn folders(&self, store: &str) -> Result<Option<Folders>, Blind> {
        if store.is_empty() {
            return self.own.clone().map(Some).ok_or(Blind::Unknown);
        }
        // What a secret names this server does not ask for.
        if references::has(store) || !self.allowed.iter().any(|beginning| unit::store_is_below(store, beginning)) {
            return Ok(None);
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = others.get(store) {
            return Ok(Some(known.clone()));
        }
        let opened = Folders::open(store, &Access::default())?;
        if others.len() >= STORES_MAX {
            others.clear();
        }
        others.insert(store.to_owned(), opened.clone());
        Ok(Some(opened))
    }
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
