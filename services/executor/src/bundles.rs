//! Code as immutable folders, fetched once per bundle.

use blobs::{Blobs, Bundle, BundleFile};
use domain::ErrorKind;
use project::bundle::Manifest;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{Mutex, OnceCell};

/// The bundles of an executor.
#[derive(Debug)]
pub struct Bundles {
    blobs: Blobs,
    folder: PathBuf,
    known: Mutex<HashMap<String, Arc<OnceCell<PathBuf>>>>,
}

impl Bundles {
    /// Bundles below a folder.
    #[must_use]
    pub fn new(blobs: Blobs, folder: &Path) -> Self {
        Self { blobs, folder: folder.to_owned(), known: Mutex::default() }
    }

    /// The project folder of a bundle. Many attempts may ask at once; one fetches.
    ///
    /// # Errors
    /// When it cannot be fetched; the next one who asks tries again.
    pub async fn ensure(&self, digest: &str) -> Result<PathBuf, Error> {
        let cell = Arc::clone(self.known.lock().await.entry(digest.to_owned()).or_default());
        if let Some(known) = cell.get() {
            return Ok(known.clone());
        }
        let (blobs, folder, digest) = (self.blobs.clone(), self.folder.clone(), digest.to_owned());
        cell.get_or_try_init(|| async move { fetch(&blobs, &digest, &folder).await }).await.cloned()
    }
}

async fn fetch(blobs: &Blobs, digest: &str, folder: &Path) -> Result<PathBuf, Error> {
    let manifest: Manifest = serde_json::from_slice(&blobs.get_manifest(digest).await?).map_err(Error::Manifest)?;
    manifest.validate().map_err(|invalid| Error::Invalid(invalid.to_string()))?;
    let files: Vec<BundleFile> = manifest
        .files
        .into_iter()
        .map(|file| BundleFile { path: file.path, sha256: file.sha256, executable: file.executable })
        .collect();
    let bundle = Bundle { digest, project_name: &manifest.project_name, files: &files };
    Ok(blobs.materialise(&bundle, folder).await?)
}

/// Why a bundle is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, or what is in it.
    #[error("fetch the project's files")]
    Blobs(#[from] blobs::Error),
    /// The list of files cannot be read.
    #[error("read the bundle's list of files")]
    Manifest(#[source] serde_json::Error),
    /// The list of files is not to be believed.
    #[error("the bundle's list of files is refused: {0}")]
    Invalid(String),
}

impl Error {
    /// True when the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Blobs(error) if error.kind() == ErrorKind::ResourceExhausted)
    }
}
