//! Folders of files: sent to a store whole, fetched whole, removed whole.
//!
//! A folder has one file that makes it count, its *seal*. It is sent last and asked for first, so that nobody ever sees
//! half of a folder. Refuses to know what the files are.

use crate::{Access, Error, place};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart,
    path::Path,
};
use std::{
    collections::BTreeSet,
    fmt,
    future::ready,
    io,
    os::fd::AsRawFd,
    path::{Path as DiskPath, PathBuf},
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncWriteExt},
};

/// Files on their way at once.
const FILES_AT_ONCE: usize = 8;
/// Bytes sent at a time; a file of at most that many is one request.
const PART_BYTES: usize = 8 << 20;
/// Parts of one file on their way at once.
const PARTS_MAX: usize = 2;
/// Files of one folder; a block that writes more fails.
const FILES_MAX: usize = 20_000;
/// Names that are removed with one request.
const REMOVED_AT_ONCE: usize = 1_000;
/// Ends the name of an unfinished folder.
const UNFINISHED: &str = ".fetch";

/// What was moved or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// All together.
    pub bytes: u64,
}

/// A file on its way from a store.
pub struct FileStream {
    /// All of them.
    pub bytes: u64,
    /// In order; the first error is the last item.
    pub chunks: crate::Content,
}

impl fmt::Debug for FileStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStream").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Folders in one store; clones share it.
#[derive(Clone)]
pub struct Folders {
    store: Arc<dyn ObjectStore>,
    url: String,
}

impl fmt::Debug for Folders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folders").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Folders {
    /// Opens the store at `url`, see [`crate::Blobs::open`].
    ///
    /// # Errors
    /// On an address that is none, or a credential that cannot be read.
    pub fn open(url: &str, access: &Access) -> Result<Self, Error> {
        Ok(Self { store: place::open(url, access)?, url: url.trim_end_matches('/').to_owned() })
    }

    /// The same, told of by another address: the one that it was opened with may hold a secret.
    #[must_use]
    pub fn told_as(&self, url: &str) -> Self {
        Self { store: Arc::clone(&self.store), url: url.trim_end_matches('/').to_owned() }
    }

    /// The address that errors name: the one that it was opened with, unless it is told of by another.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a folder of this disk: every file, and `seal` after all others have arrived. Sending it again changes
    /// nothing. Dropping the future leaves files without a seal.
    ///
    /// # Errors
    /// When a file cannot be read or stored, there are too many, or there is no seal.
    pub async fn send(&self, folder: &DiskPath, at: &str, seal: &str) -> Result<Amount, Error> {
        let mut files = files_below(folder).await?;
        let sealed = files.iter().position(|(name, _)| name == seal).map(|at| files.swap_remove(at));
        let Some(sealed) = sealed else {
            let source = io::Error::new(io::ErrorKind::NotFound, "it is not finished");
            return Err(Error::Disk { place: folder.join(seal).display().to_string(), source });
        };
        let bytes = files.iter().map(|(_, bytes)| bytes).sum::<u64>() + sealed.1;
        let amount = Amount { files: files.len() as u64 + 1, bytes };
        let sends: Vec<_> = files.into_iter().map(|(name, bytes)| self.send_file(folder, at, name, bytes)).collect();
        stream::iter(sends).buffer_unordered(FILES_AT_ONCE).try_collect::<()>().await?;
        self.send_file(folder, at, sealed.0, sealed.1).await?;
        Ok(amount)
    }

    async fn send_file(&self, folder: &DiskPath, at: &str, name: String, bytes: u64) -> Result<(), Error> {
        let source = folder.join(&name);
        let target = self.name(at, &name)?;
        let disk = |error| Error::disk(&source, error);
        let failed = |error| self.failed(&target, error);
        if bytes <= PART_BYTES as u64 {
            let content = fs::read(&source).await.map_err(disk)?;
            return self.store.put(&target, PutPayload::from(content)).await.map(drop).map_err(failed);
        }
        let mut file = fs::File::open(&source).await.map_err(disk)?;
        let upload = self.store.put_multipart(&target).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        loop {
            let mut part = Vec::with_capacity(PART_BYTES);
            match (&mut file).take(PART_BYTES as u64).read_to_end(&mut part).await {
                Ok(0) => return upload.finish().await.map(drop).map_err(failed),
                Ok(_) => {}
                Err(error) => {
                    // The first error is the one to tell; what a failed clean-up leaves is invisible.
                    let _ = upload.abort().await;
                    return Err(disk(error));
                }
            }
            upload.wait_for_capacity(PARTS_MAX).await.map_err(failed)?;
            upload.put(Bytes::from(part));
        }
    }

    /// Fetches a folder to this disk; `None` when it is not stored or has no seal. It appears at `into` whole: several
    /// calls may do it at once, and all use the first one's result.
    ///
    /// # Errors
    /// When the store or the disk fails. Nothing half done stays.
    pub async fn fetch(&self, at: &str, into: &DiskPath, seal: &str) -> Result<Option<Amount>, Error> {
        match self.store.head(&self.name(at, seal)?).await {
            Ok(_) => {}
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(&self.name(at, seal)?, error)),
        }
        let names = self.names(at).await?;
        let unfinished = Unfinished::beside(into);
        fs::create_dir_all(&unfinished.0).await.map_err(|error| Error::disk(&unfinished.0, error))?;
        let amount = Amount { files: names.len() as u64, bytes: names.iter().map(|(_, bytes)| bytes).sum() };
        let root = self.root(at)?;
        let fetches: Vec<_> = names.into_iter().map(|(name, _)| self.fetch_file(&root, name, &unfinished.0)).collect();
        stream::iter(fetches).buffer_unordered(FILES_AT_ONCE).try_collect::<()>().await?;
        match fs::rename(&unfinished.0, into).await {
            Err(error) if !is_taken(&error) => Err(Error::disk(into, error)),
            _ => Ok(Some(amount)),
        }
    }

    async fn fetch_file(&self, root: &Path, name: Path, folder: &DiskPath) -> Result<(), Error> {
        let parts: Option<Vec<_>> = name.prefix_match(root).map(Iterator::collect);
        let path = parts.into_iter().flatten().fold(folder.to_owned(), |path, part| path.join(part.as_ref()));
        let disk = |error| Error::disk(&path, error);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await.map_err(disk)?;
        }
        let found = self.get(&name, None).await.map_err(|error| self.failed(&name, error))?;
        let mut content = found.into_stream();
        let mut file = fs::File::create(&path).await.map_err(disk)?;
        while let Some(chunk) = content.try_next().await.map_err(|error| self.failed(&name, error))? {
            file.write_all(&chunk).await.map_err(disk)?;
        }
        // Without it the last write's error would be lost.
        file.flush().await.map_err(disk)
    }

    /// The first `bytes_max` bytes of one file; `None` when it is not stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read(&self, at: &str, name: &str, bytes_max: u64) -> Result<Option<Bytes>, Error> {
        let name = self.name(at, name)?;
        match self.get(&name, Some(GetRange::Bounded(0..bytes_max))).await {
            Ok(found) => found.bytes().await.map(Some).map_err(|error| self.failed(&name, error)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&name, error)),
        }
    }

    /// A part of one file, from a byte that it has, or its first, and at most so many; and how many it has in all. `None` when
    /// it is not stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn part(
        &self,
        at: &str,
        name: &str,
        (offset, bytes_max): (u64, u64),
    ) -> Result<Option<(u64, Bytes)>, Error> {
        let name = self.name(at, name)?;
        // No store gives a range of a file that is empty.
        let range = (offset > 0).then(|| GetRange::Bounded(offset..offset.saturating_add(bytes_max)));
        let found = match self.get(&name, range).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(&name, error)),
        };
        let (size, mut chunks) = (found.meta.size, found.into_stream());
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let mut part = BytesMut::new();
        while part.len() < bytes_max
            && let Some(chunk) = chunks.try_next().await.map_err(|error| self.failed(&name, error))?
        {
            part.extend_from_slice(&chunk[..chunk.len().min(bytes_max - part.len())]);
        }
        Ok(Some((size, part.freeze())))
    }

    /// One file as it comes, in chunks of the store's size; `None` when it is not stored.
    ///
    /// # Errors
    /// When the store fails, now or later in the stream.
    pub async fn stream(&self, at: &str, name: &str) -> Result<Option<FileStream>, Error> {
        let name = self.name(at, name)?;
        let found = match self.get(&name, None).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(&name, error)),
        };
        let (bytes, folders) = (found.meta.size, self.clone());
        let chunks = found.into_stream().map_err(move |error| folders.failed(&name, error)).boxed();
        Ok(Some(FileStream { bytes, chunks }))
    }

    /// A file, or a part of it. Where the store is a folder of this machine, whoever writes into it could have put a link
    /// there to what only this process may read: a file that is not where its name says is none of the store's.
    async fn get(&self, name: &Path, range: Option<GetRange>) -> object_store::Result<GetResult> {
        let found = self.store.get_opts(name, GetOptions { range, ..GetOptions::default() }).await?;
        if let GetResultPayload::File(file, path) = &found.payload {
            // Of the file that was opened, so that nobody can exchange it after this look.
            let opened = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
            if opened.is_ok_and(|opened| opened != *path) {
                let source = format!("{} is reached by a link", path.display()).into();
                return Err(object_store::Error::PermissionDenied { path: name.to_string(), source });
            }
        }
        Ok(found)
    }

    /// Removes everything below a folder; one that is not there is no error.
    ///
    /// # Errors
    /// When the store fails; calling it again goes on.
    pub async fn remove(&self, at: &str) -> Result<Amount, Error> {
        let root = self.root(at)?;
        let mut names = self.store.list(Some(&root)).try_chunks(REMOVED_AT_ONCE);
        let mut amount = Amount::default();
        while let Some(batch) = names.try_next().await.map_err(|error| self.failed(&root, error.1))? {
            amount.files += batch.len() as u64;
            amount.bytes += batch.iter().map(|file| file.size).sum::<u64>();
            let batch = stream::iter(batch).map(|file| Ok(file.location)).boxed();
            let removed: Result<(), _> = self.store.delete_stream(batch).try_for_each(|_| ready(Ok(()))).await;
            match removed {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed(&root, error)),
            }
        }
        Ok(amount)
    }

    async fn names(&self, at: &str) -> Result<Vec<(Path, u64)>, Error> {
        let root = self.root(at)?;
        let mut names: Vec<(Path, u64)> = Vec::new();
        let mut found = self.store.list(Some(&root));
        while let Some(file) = found.try_next().await.map_err(|error| self.failed(&root, error))? {
            names.push((file.location, file.size));
            if names.len() > FILES_MAX {
                return Err(Error::TooMany { place: root.to_string(), max: FILES_MAX });
            }
        }
        Ok(names)
    }

    fn root(&self, at: &str) -> Result<Path, Error> {
        Path::parse(at).map_err(|_| Error::Path { path: at.to_owned(), reason: "is no path of a store" })
    }

    /// Taken as it is: joining would encode what is encoded already.
    fn name(&self, at: &str, name: &str) -> Result<Path, Error> {
        self.root(&format!("{at}/{name}"))
    }

    fn failed(&self, name: &Path, error: object_store::Error) -> Error {
        Error::store("file", &format!("{}/{name}", self.url), error)
    }
}

/// A folder that is removed unless it was renamed away.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(into: &DiskPath) -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = into.file_name().unwrap_or_default().to_string_lossy();
        Self(into.with_file_name(format!(".{name}.{}-{count}{UNFINISHED}", std::process::id())))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Also when the caller drops the future half way.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}

/// Every file below with its size, relative. Links are not followed: user code could have made them.
async fn files_below(folder: &DiskPath) -> Result<Vec<(String, u64)>, Error> {
    let mut files = Vec::new();
    let mut open = BTreeSet::from([PathBuf::new()]);
    while let Some(relative) = open.pop_first() {
        let at = folder.join(&relative);
        let disk = |error| Error::disk(&at, error);
        let mut entries = fs::read_dir(&at).await.map_err(disk)?;
        while let Some(entry) = entries.next_entry().await.map_err(disk)? {
            let (path, kind) = (relative.join(entry.file_name()), entry.file_type().await.map_err(disk)?);
            if kind.is_dir() {
                open.insert(path);
            } else if kind.is_file() {
                let bytes = entry.metadata().await.map_err(disk)?.len();
                files.push((path.to_string_lossy().into_owned(), bytes));
            }
            if files.len() > FILES_MAX {
                return Err(Error::TooMany { place: folder.display().to_string(), max: FILES_MAX });
            }
        }
    }
    Ok(files)
}
