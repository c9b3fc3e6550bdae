//! Files of models over a connection that may break: each try goes on where the last one ended. Refuses to show anything
//! but how far it is.

use crate::{
    connection::{CALL_TIMEOUT, Connection, UPLOAD_TIMEOUT},
    failure::{Code, Failure, Result},
    render::{self, Output},
};
use proto::v1::{
    DownloadModelRequest, ModelVersion, StartUploadRequest, UploadHeader, UploadModelRequest, download_model_response,
    upload_model_request::Part,
};
use rpc::client::within;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code as Status, Status as Said};

/// Below the limit of 1 MiB that the API sets.
const CHUNK_BYTES: usize = 512 * 1024;
/// Chunks that wait for the network.
const CHUNKS_AHEAD: usize = 4;
/// Tries that brought nothing new, one after the other, before it is given up.
const TRIES_MAX: u32 = 5;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends a file as a version of a model; answers the version that is there at its end.
pub(crate) async fn upload(connection: &Connection, output: &Output, file: &Path, name: &str) -> Result<ModelVersion> {
    let start = announce(connection, file, name).await?;
    let (mut tries, mut reached) = (0, -1);
    loop {
        let began = connection.models().start_upload(within(CALL_TIMEOUT, start.clone())).await?.into_inner();
        if let Some(version) = began.version {
            return Ok(version);
        }
        tries = if began.offset > reached { 0 } else { tries + 1 };
        reached = began.offset;
        if reached > 0 && !output.json {
            let (done, all) = (render::bytes(reached), render::bytes(start.size_bytes));
            render::line(&output.style.dim(&format!("{done} of {all} are there; going on")));
        }
        match send(connection, file, UploadHeader { upload_id: began.upload_id, offset: reached }).await? {
            Ok(version) => return Ok(version),
            Err(said) if is_passing(&said) && tries < TRIES_MAX => tokio::time::sleep(PAUSE).await,
            Err(said) => return Err(said.into()),
        }
    }
}

fn is_passing(said: &Said) -> bool {
    matches!(said.code(), Status::Unavailable | Status::Cancelled | Status::DeadlineExceeded | Status::Unknown)
}

async fn announce(connection: &Connection, file: &Path, name: &str) -> Result<StartUploadRequest> {
    let path = file.to_path_buf();
    let digested = tokio::task::spawn_blocking(move || digest(&path)).await;
    let digested = digested.map_err(|e| Failure::new(Code::Internal, e, ""))?;
    let (size, sha256) = digested.map_err(|e| unreadable(file, &e))?;
    let file_name = file.file_name().and_then(|name| name.to_str());
    let file_name = file_name.ok_or_else(|| Failure::new(Code::Usage, "the file has no name in UTF-8", "rename it"))?;
    Ok(StartUploadRequest {
        workspace: connection.workspace.clone(),
        name: name.to_owned(),
        file_name: file_name.to_owned(),
        size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
        sha256,
    })
}

fn unreadable(file: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Data, format!("cannot read {}: {error}", file.display()), "name a file that you can read")
}

/// Size and SHA-256.
fn digest(file: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hasher, mut buffer, mut size) = (File::open(file)?, Sha256::new(), vec![0; CHUNK_BYTES], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hex(hasher)));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One try. What the server says is answered; what the disk says is a failure.
async fn send(
    connection: &Connection,
    file: &Path,
    header: UploadHeader,
) -> Result<std::result::Result<ModelVersion, Said>> {
    let (parts, stream) = mpsc::channel(CHUNKS_AHEAD);
    let path = file.to_path_buf();
    let reader = tokio::task::spawn_blocking(move || read_into(&path, header, &parts));
    let request = within(UPLOAD_TIMEOUT, ReceiverStream::new(stream));
    let sent = connection.models().upload_model(request).await;
    let read = reader.await.map_err(|e| Failure::new(Code::Internal, e, ""))?;
    read.map_err(|e| unreadable(file, &e))?;
    Ok(sent.map(|answer| answer.into_inner().version.unwrap_or_default()))
}

/// Ends early when nobody listens any more.
fn read_into(file: &Path, header: UploadHeader, parts: &mpsc::Sender<UploadModelRequest>) -> io::Result<()> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(header.offset.cast_unsigned()))?;
    let mut next = Some(Part::Header(header));
    while let Some(part) = next {
        if parts.blocking_send(UploadModelRequest { part: Some(part) }).is_err() {
            return Ok(());
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk)?;
        chunk.truncate(read);
        next = (read > 0).then_some(Part::Chunk(chunk));
    }
    Ok(())
}

/// Fetches a version into a file, which has its name only once all of it is there and right.
pub(crate) async fn download(
    connection: &Connection,
    version_id: &str,
    into: Option<PathBuf>,
) -> Result<(ModelVersion, PathBuf)> {
    let mut copy = None;
    let (mut tries, mut reached) = (0, -1);
    loop {
        let offset = copy.as_ref().map_or(0, |copy: &Copy| copy.size);
        let request = DownloadModelRequest { version_id: version_id.to_owned(), offset };
        tries = if offset > reached { 0 } else { tries + 1 };
        reached = offset;
        match fetch(connection, request, into.as_ref(), &mut copy).await? {
            Ok(()) => break,
            Err(said) if is_passing(&said) && tries < TRIES_MAX => tokio::time::sleep(PAUSE).await,
            Err(said) => return Err(said.into()),
        }
    }
    copy.ok_or_else(|| Failure::new(Code::Internal, "the server sent no version", ""))?.keep()
}

async fn fetch(
    connection: &Connection,
    request: DownloadModelRequest,
    into: Option<&PathBuf>,
    copy: &mut Option<Copy>,
) -> Result<std::result::Result<(), Said>> {
    // No deadline of the whole: a model takes as long as its bytes. A silent connection is noticed by its keep-alive.
    let mut answers = match connection.models().download_model(request).await {
        Ok(answers) => answers.into_inner(),
        Err(said) => return Ok(Err(said)),
    };
    loop {
        match answers.message().await.map(|message| message.and_then(|message| message.part)) {
            Err(said) => return Ok(Err(said)),
            Ok(None) => return Ok(Ok(())),
            Ok(Some(download_model_response::Part::Version(version))) if copy.is_none() => {
                *copy = Some(Copy::create(version, into)?);
            }
            Ok(Some(download_model_response::Part::Version(_))) => {}
            Ok(Some(download_model_response::Part::Chunk(chunk))) => {
                if let Some(copy) = copy {
                    copy.write(&chunk)?;
                }
            }
        }
    }
}

/// A download that is under way; without [`Copy::keep`], nothing of it stays.
struct Copy {
    version: ModelVersion,
    path: PathBuf,
    file: tempfile::NamedTempFile,
    hasher: Sha256,
    size: i64,
}

impl Copy {
    fn create(version: ModelVersion, into: Option<&PathBuf>) -> Result<Self> {
        // The server refuses names with folders, and a server may be anybody.
        let own = Path::new(&version.file_name).file_name().map(PathBuf::from);
        let path = into.cloned().or(own).unwrap_or_else(|| "model".into());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".orrery-download-").tempfile_in(folder);
        let file = file.map_err(|e| unwritable(&path, &e))?;
        Ok(Self { version, path, file, hasher: Sha256::new(), size: 0 })
    }

    fn write(&mut self, chunk: &[u8]) -> Result<()> {
        self.file.write_all(chunk).map_err(|e| unwritable(&self.path, &e))?;
        self.hasher.update(chunk);
        self.size += i64::try_from(chunk.len()).unwrap_or(0);
        Ok(())
    }

    fn keep(self) -> Result<(ModelVersion, PathBuf)> {
        if hex(self.hasher) != self.version.sha256 {
            let what = "what came has another SHA-256 than the version";
            return Err(Failure::new(Code::Internal, what, "try again; if it stays so, upload the model again"));
        }
        self.file.persist(&self.path).map_err(|e| unwritable(&self.path, &e.error))?;
        Ok((self.version, self.path))
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Data, format!("cannot write {}: {error}", path.display()), "name another file by --output")
}
