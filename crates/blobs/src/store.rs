//! Files by their digest and manifests by their bundle's digest, in one object store.
//!
//! `files/<first two digits>/<sha256>` and `bundles/<sha256>`; both are written once and never change.

use crate::{Access, Error, digest, place};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart, path::Path};
use std::{fmt, io, pin::pin, sync::Arc};

/// Questions to the store at once.
const QUESTIONS_MAX: usize = 32;
/// Bytes written at a time; object stores want at least 5 MiB for all parts but the last.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once.
const PARTS_MAX: usize = 2;
/// Size of one manifest.
const MANIFEST_BYTES_MAX: usize = 32 << 20;

/// Content as it arrives.
pub type Content = BoxStream<'static, Result<Bytes, Error>>;

/// A store of files and manifests; clones share it.
#[derive(Clone)]
pub struct Blobs {
    pub(crate) store: Arc<dyn ObjectStore>,
    url: String,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blobs").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Blobs {
    /// Opens the store at `url`: `file:///some/folder`, which is created when it is not there, `s3://bucket/prefix` or
    /// `gs://bucket/prefix`. Credentials, region and endpoint of a bucket come from the environment, see [`Access`].
    ///
    /// # Errors
    /// On an address that is none, and when the folder cannot be created.
    pub fn open(url: &str) -> Result<Self, Error> {
        Self::open_with(url, &Access::default())
    }

    /// As [`Blobs::open`], with what opens a bucket.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(url: &str, access: &Access) -> Result<Self, Error> {
        Ok(Self { store: place::open(url, access)?, url: url.to_owned() })
    }

    /// The address that it was opened with.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stores a file. It becomes visible when all of it has arrived and has the announced digest and size; otherwise,
    /// nothing of it stays. Storing the same content again changes nothing. Dropping the future stores nothing.
    ///
    /// # Errors
    /// When the content is not what was announced, breaks off, or cannot be stored.
    pub async fn put(
        &self,
        sha256: &str,
        size: u64,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<(), Error> {
        let at = file_path(sha256)?;
        let failed = |error| Error::store("file", sha256, error);
        if size <= PART_BYTES as u64 {
            let content = collect(sha256, size, content).await?;
            return self.store.put(&at, content).await.map(drop).map_err(failed);
        }
        let upload = self.store.put_multipart(&at).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        match fill(&mut upload, sha256, size, content).await {
            Ok(()) => upload.finish().await.map(drop).map_err(failed),
            Err(error) => {
                // The first error is the one to tell; what a failed clean-up leaves is invisible.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }

    /// Which of the files are stored, in the order of the question.
    ///
    /// # Errors
    /// When a digest is none, or the store fails.
    pub async fn has_many(&self, digests: &[&str]) -> Result<Vec<bool>, Error> {
        let paths = digests.iter().map(|sha256| file_path(sha256)).collect::<Result<Vec<_>, _>>()?;
        let questions: Vec<_> = paths.into_iter().map(|path| self.has(path)).collect();
        futures_util::stream::iter(questions).buffered(QUESTIONS_MAX).try_collect().await
    }

    async fn has(&self, at: Path) -> Result<bool, Error> {
        match self.store.head(&at).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(Error::store("file", at.filename().unwrap_or_default(), error)),
        }
    }

    /// A file's content. The last item is an error when the whole does not have its digest: do not use what came
    /// before it until the stream has ended.
    ///
    /// # Errors
    /// When it is not stored, or the store fails.
    pub async fn get(&self, sha256: &str) -> Result<Content, Error> {
        let found = self.store.get(&file_path(sha256)?).await.map_err(|error| Error::store("file", sha256, error))?;
        Ok(verified(found.into_stream().boxed(), sha256.to_owned()))
    }

    /// Stores a bundle's manifest. The first one stays: a digest has one manifest, in whatever encoding it came first.
    /// Whether the bytes have that digest is the caller's business, since only the caller can read them.
    ///
    /// # Errors
    /// When it is too large or cannot be stored.
    pub async fn put_manifest(&self, bundle_digest: &str, manifest: Bytes) -> Result<(), Error> {
        let at = manifest_path(bundle_digest)?;
        if manifest.len() > MANIFEST_BYTES_MAX {
            let (expected, found) = (MANIFEST_BYTES_MAX as u64, manifest.len() as u64);
            return Err(Error::Size { digest: bundle_digest.to_owned(), expected, found });
        }
        match self.store.put_opts(&at, PutPayload::from(manifest), PutOptions::from(PutMode::Create)).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(Error::store("manifest", bundle_digest, error)),
        }
    }

    /// The manifest as it was stored; verify its digest after decoding it.
    ///
    /// # Errors
    /// When it is not stored, or the store fails.
    pub async fn get_manifest(&self, bundle_digest: &str) -> Result<Bytes, Error> {
        let failed = |error| Error::store("manifest", bundle_digest, error);
        let found = self.store.get(&manifest_path(bundle_digest)?).await.map_err(failed)?;
        found.bytes().await.map_err(failed)
    }
}

fn file_path(sha256: &str) -> Result<Path, Error> {
    let sha256 = digest::checked(sha256)?;
    Ok(Path::from(format!("files/{}/{sha256}", &sha256[..2])))
}

fn manifest_path(bundle_digest: &str) -> Result<Path, Error> {
    Ok(Path::from(format!("bundles/{}", digest::of_bundle(bundle_digest)?)))
}

/// Compares content with what was announced, while it comes.
struct Judge<'a> {
    sha256: &'a str,
    size: u64,
    received: u64,
    hasher: digest::Hasher,
}

impl<'a> Judge<'a> {
    fn new(sha256: &'a str, size: u64) -> Self {
        Self { sha256, size, received: 0, hasher: digest::Hasher::default() }
    }

    fn take(&mut self, chunk: io::Result<Bytes>) -> Result<Bytes, Error> {
        let chunk = chunk.map_err(Error::Content)?;
        self.received += chunk.len() as u64;
        // At once, and not at the end: a stream without end must not fill the disk.
        if self.received > self.size {
            return Err(self.wrong_size());
        }
        self.hasher.update(&chunk);
        Ok(chunk)
    }

    fn verdict(self) -> Result<(), Error> {
        if self.received < self.size {
            return Err(self.wrong_size());
        }
        let found = self.hasher.finish();
        if found == self.sha256 { Ok(()) } else { Err(Error::Mismatch { expected: self.sha256.to_owned(), found }) }
    }

    fn wrong_size(&self) -> Error {
        Error::Size { digest: self.sha256.to_owned(), expected: self.size, found: self.received }
    }
}

/// What is small, in memory: one request stores it.
async fn collect(
    sha256: &str,
    size: u64,
    content: impl Stream<Item = io::Result<Bytes>> + Send,
) -> Result<PutPayload, Error> {
    let (mut content, mut judge, mut chunks) = (pin!(content), Judge::new(sha256, size), Vec::new());
    while let Some(chunk) = content.next().await {
        chunks.push(judge.take(chunk)?);
    }
    judge.verdict()?;
    Ok(PutPayload::from_iter(chunks))
}

/// Writes the content as it comes and judges it; what is written so far is not visible yet.
async fn fill(
    upload: &mut WriteMultipart,
    sha256: &str,
    size: u64,
    content: impl Stream<Item = io::Result<Bytes>> + Send,
) -> Result<(), Error> {
    let (mut content, mut judge) = (pin!(content), Judge::new(sha256, size));
    while let Some(chunk) = content.next().await {
        let chunk = judge.take(chunk)?;
        upload.wait_for_capacity(PARTS_MAX).await.map_err(|error| Error::store("file", sha256, error))?;
        upload.put(chunk);
    }
    judge.verdict()
}

fn verified(content: BoxStream<'static, object_store::Result<Bytes>>, sha256: String) -> Content {
    let state = Some((content, digest::Hasher::default(), sha256));
    let step = |state: Option<(BoxStream<'static, object_store::Result<Bytes>>, digest::Hasher, String)>| async move {
        let Some((mut content, mut hasher, sha256)) = state else { return Ok(None) };
        match content.next().await {
            Some(Ok(chunk)) => {
                hasher.update(&chunk);
                Ok(Some((chunk, Some((content, hasher, sha256)))))
            }
            Some(Err(error)) => Err(Error::store("file", &sha256, error)),
            None => {
                let found = hasher.finish();
                if found == sha256 { Ok(None) } else { Err(Error::Corrupt { digest: sha256, found }) }
            }
        }
    };
    futures_util::stream::try_unfold(state, step).boxed()
}
