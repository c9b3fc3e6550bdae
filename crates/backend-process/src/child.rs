//! One forked Python process: its start, its control channel, its output, its end.

use crate::{Error, frame, process};
use rustix::{
    io::{Errno, IoSlice},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
        connect, sendmsg, socket_with,
    },
    process::Signal,
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Duration,
};
use tokio::{
    io::Interest,
    net::{
        UnixStream,
        unix::{
            OwnedReadHalf, OwnedWriteHalf,
            pipe::{self, Receiver},
        },
    },
};

/// A packet from the zygote.
const PACKET_BYTES_MAX: usize = 4_096;
/// Tries to reach a zygote whose backlog is full, and the pause between them.
const BACKLOG_TRIES: u32 = 200;
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// What a child is started with.
#[derive(Debug, Clone, Serialize)]
pub struct Spawn {
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working folder.
    pub cwd: String,
    /// What it may use.
    pub limits: Limits,
    /// Shown in process lists.
    pub name: String,
}

/// What a child may use.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Limits {
    /// Address space beyond what the warm interpreter has.
    pub memory_bytes: Option<u64>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// The zygote died first; the child with it.
    ZygoteGone,
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    /// The leader of its session and process group.
    pub pid: i32,
    /// Lines that it prints.
    pub stdout: Receiver,
    /// Lines that it prints as errors.
    pub stderr: Receiver,
    /// Frames that it sends; see [`frame::take`].
    pub frames: OwnedReadHalf,
    /// Frames that it is sent.
    pub control: Control,
    /// Its end.
    pub ending: Ending,
}

/// The writing end of the control channel.
#[derive(Debug)]
pub struct Control(OwnedWriteHalf);

impl Control {
    /// Sends one frame. Not cancel-safe.
    ///
    /// # Errors
    /// When the child no longer reads.
    pub async fn send(&mut self, value: &Value) -> io::Result<()> {
        frame::write(&mut self.0, value).await
    }
}

/// Tells when and how a child ended.
#[derive(Debug)]
pub struct Ending(UnixStream);

impl Ending {
    /// Waits for the end. Cancel-safe.
    pub async fn wait(&self) -> Exit {
        match receive(&self.0).await {
            Ok(Some(answer)) => match (answer["exit"].as_i64(), answer["signal"].as_i64()) {
                (Some(code), _) => Exit::Code(i32::try_from(code).unwrap_or(-1)),
                (_, Some(signal)) => Exit::Signal(i32::try_from(signal).unwrap_or(-1)),
                _ => Exit::ZygoteGone,
            },
            Ok(None) | Err(_) => Exit::ZygoteGone,
        }
    }
}

impl Child {
    /// Asks the zygote at `socket` for a child.
    ///
    /// # Errors
    /// When the zygote refuses or is gone.
    pub async fn start(socket: &Path, spawn: &Spawn) -> Result<Self, Error> {
        let (stdout, out) = pipe()?;
        let (stderr, err) = pipe()?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (frames, control) = UnixStream::from_std(ours)?.into_split();
        let line = dial(socket).await.map_err(|e| Error::Child(format!("the zygote does not answer: {e}")))?;
        send(&line, &serde_json::to_vec(spawn).map_err(io::Error::from)?, [out.as_fd(), err.as_fd(), theirs.as_fd()])
            .await?;
        drop((out, err, theirs));
        let answer = receive(&line).await?.ok_or_else(|| Error::Child("the zygote went away".to_owned()))?;
        let pid = answer["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let Some(pid) = pid else {
            return Err(Error::Child(answer["error"].as_str().unwrap_or("the zygote refused").to_owned()));
        };
        Ok(Self { pid, stdout, stderr, frames, control: Control(control), ending: Ending(line) })
    }

    /// Signals the child's whole process group.
    pub fn signal(&self, signal: Signal) {
        process::signal_group(self.pid, signal);
    }
}

fn pipe() -> io::Result<(Receiver, OwnedFd)> {
    let (sender, receiver) = pipe::pipe()?;
    Ok((receiver, sender.into_blocking_fd()?))
}

/// Connects. A full backlog answers EAGAIN to a non-blocking socket, and readiness never tells when there is room.
async fn dial(socket: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let address = SocketAddrUnix::new(socket)?;
    let mut tries = 0;
    loop {
        let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        match connect(&fd, &address) {
            // A SEQPACKET descriptor in tokio's UnixStream: only readiness and plain reads are used, which both have.
            Ok(()) => return UnixStream::from_std(fd.into()),
            Err(Errno::AGAIN) if tries < BACKLOG_TRIES => {
                tries += 1;
                tokio::time::sleep(BACKLOG_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn send(line: &UnixStream, packet: &[u8], fds: [std::os::fd::BorrowedFd<'_>; 3]) -> io::Result<()> {
    line.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        Ok(sendmsg(line, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL)?)
    })
    .await
    .map(drop)
}

async fn receive(line: &UnixStream) -> io::Result<Option<Value>> {
    let mut packet = [0; PACKET_BYTES_MAX];
    let length = line.async_io(Interest::READABLE, || line.try_read(&mut packet)).await?;
    if length == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&packet[..length]).map(Some).map_err(io::Error::from)
}
