//! What a process says through its three channels (both its streams and the frames of its runner), in the order in which
//! it said it.
//!
//! Each channel has an order of its own. Where the runner goes on through another one, it leaves a mark there, with a number
//! that rises. What stands behind a mark waits until the other channels are empty, or have come to marks of higher numbers:
//! what came before it was written before it, so by then it was read. What others write there (programs that user code
//! started, a dying interpreter) has no marks, and comes when it is read. No mark, forged or lost, stops anything.

use super::printing::{Printed, Target};
use backend_process::frame;
use serde_json::Value;
use std::{
    io::{self, ErrorKind},
    os::fd::AsFd,
    time::Duration,
};
use tokio::{
    net::unix::{OwnedReadHalf, pipe::Receiver},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Bytes read at once. Most attempts say little: a larger buffer costs more to clear than it saves.
const BUFFER_BYTES: usize = 8 * 1024;
/// A mark waits for so many reads at most: more than what a channel holds. A program that never falls silent holds nobody up.
const READS_MAX: u32 = 64;
/// Frames of one process that nobody has taken; it waits beyond.
const FRAMES_MAX: usize = 64;

/// A task that listens to one process.
#[derive(Debug)]
pub(super) struct Said {
    task: JoinHandle<()>,
    flush: mpsc::Sender<oneshot::Sender<()>>,
}

impl Said {
    /// Reads all three to their ends. What is said becomes lines of `target`; other frames come through the receiver,
    /// which ends with the control channel.
    pub(super) fn start(
        [stdout, stderr]: [Receiver; 2],
        control: OwnedReadHalf,
        target: Target,
    ) -> (Self, mpsc::Receiver<Value>) {
        let (flush, asked) = mpsc::channel(1);
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        let pipe = |source, level, stream| Pipe {
            source,
            level,
            stream,
            printed: Printed::default(),
            mark: None,
            has_ended: false,
        };
        let listener = Listener {
            pipes: [pipe(stdout, "INFO", "stdout"), pipe(stderr, "INFO", "stderr")],
            control: Control {
                source: control,
                pending: Vec::new(),
                held: None,
                sender: Some(sender),
                has_ended: false,
            },
            target,
            buffer: vec![0; BUFFER_BYTES],
            reads: 0,
        };
        (Self { task: tokio::spawn(listener.run(asked)), flush }, frames)
    }

    /// Returns when what the process has flushed by now is in the log, or after the time-out.
    pub(super) async fn flush(&self, timeout: Duration) {
        let (done, told) = oneshot::channel();
        let flushed = async {
            if self.flush.send(done).await.is_ok() {
                // At the end of everything there is nothing left to wait for.
                let _ = told.await;
            }
        };
        let _ = tokio::time::timeout(timeout, flushed).await;
    }

    /// Waits for the end of all channels; false when somebody still holds one open after the time-out.
    pub(super) async fn ended(&mut self, timeout: Duration) -> bool {
        self.task.is_finished() || tokio::time::timeout(timeout, &mut self.task).await.is_ok()
    }

    /// Reads no further.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

struct Listener {
    pipes: [Pipe; 2],
    control: Control,
    target: Target,
    buffer: Vec<u8>,
    /// Since a mark waits.
    reads: u32,
}

impl Listener {
    async fn run(mut self, mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
        while !self.has_ended() {
            tokio::select! {
                () = self.target.room() => {}
                Some(done) = asked.recv() => {
                    self.flush(done).await;
                    continue;
                }
            }
            if self.turn(false).await {
                // Reading what is there never waits by itself.
                tokio::task::yield_now().await;
                continue;
            }
            let Self { pipes: [stdout, stderr], control, .. } = &self;
            tokio::select! {
                _ = stdout.source.readable(), if !stdout.has_ended => {}
                _ = stderr.source.readable(), if !stderr.has_ended => {}
                _ = control.source.readable(), if !control.has_ended => {}
                Some(done) = asked.recv() => self.flush(done).await,
            }
        }
    }

    fn has_ended(&self) -> bool {
        let [stdout, stderr] = &self.pipes;
        stdout.is_over() && stderr.is_over() && self.control.is_over()
    }

    /// Takes what is there from every channel that waits behind no mark, or else passes the lowest mark; false when there was
    /// nothing.
    async fn turn(&mut self, surely: bool) -> bool {
        let waits = self.lowest_mark().is_some();
        let surely = surely || waits;
        let Self { pipes, control, target, buffer, .. } = self;
        let mut moved = false;
        for pipe in pipes.iter_mut().filter(|pipe| !pipe.has_ended && pipe.mark.is_none()) {
            moved |= pipe.read(buffer, surely, target);
        }
        if !control.has_ended && control.held.is_none() {
            moved |= control.read(buffer, surely, target).await;
        }
        self.reads = if waits { self.reads + 1 } else { 0 };
        if moved && self.reads < READS_MAX {
            return true;
        }
        self.reads = 0;
        self.pass_mark().await || moved
    }

    fn lowest_mark(&self) -> Option<u64> {
        let [stdout, stderr] = &self.pipes;
        [stdout.mark, stderr.mark, self.control.mark()].into_iter().flatten().min()
    }

    async fn pass_mark(&mut self) -> bool {
        let Some(lowest) = self.lowest_mark() else { return false };
        for pipe in &mut self.pipes {
            if pipe.mark == Some(lowest) {
                pipe.emit(&self.target);
            }
        }
        if self.control.mark() == Some(lowest) {
            self.control.emit(&self.target).await;
        }
        true
    }

    async fn flush(&mut self, done: oneshot::Sender<()>) {
        // One that never falls silent is listened to no longer than who asked waits.
        while self.turn(true).await && !done.is_closed() {
            tokio::task::yield_now().await;
        }
        for pipe in &mut self.pipes {
            pipe.emit_rest(&self.target);
        }
        let _ = done.send(());
    }
}

/// One of the streams.
struct Pipe {
    source: Receiver,
    level: &'static str,
    stream: &'static str,
    printed: Printed,
    /// What was read last stands behind it.
    mark: Option<u64>,
    has_ended: bool,
}

impl Pipe {
    fn is_over(&self) -> bool {
        self.has_ended && self.mark.is_none()
    }

    /// Reads once; false when nothing was there.
    fn read(&mut self, buffer: &mut [u8], surely: bool, target: &Target) -> bool {
        match at_once(self.source.try_read(buffer), &self.source, buffer, surely) {
            Ok(0) => {
                self.has_ended = true;
                self.emit_rest(target);
            }
            Ok(read) => {
                self.printed.add(&buffer[..read]);
                self.emit(target);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => self.has_ended = true,
        }
        true
    }

    /// Emits lines up to the next mark.
    fn emit(&mut self, target: &Target) {
        let (level, stream) = (self.level, self.stream);
        self.mark = self.printed.take(|line| target.line(level, stream, &String::from_utf8_lossy(line)));
    }

    fn emit_rest(&mut self, target: &Target) {
        if self.mark.is_none() {
            self.printed.take_rest(|line| target.line(self.level, self.stream, &String::from_utf8_lossy(line)));
        }
    }
}

/// The frames of the runner.
struct Control {
    source: OwnedReadHalf,
    /// Read, and not yet a whole frame, or behind `held`.
    pending: Vec<u8>,
    /// A record that stands behind its mark.
    held: Option<(u64, Value)>,
    /// `None` once nobody takes frames, or none come.
    sender: Option<mpsc::Sender<Value>>,
    has_ended: bool,
}

impl Control {
    fn is_over(&self) -> bool {
        self.has_ended && self.held.is_none()
    }

    fn mark(&self) -> Option<u64> {
        self.held.as_ref().map(|(mark, _)| *mark)
    }

    /// Reads once; false when nothing was there.
    async fn read(&mut self, buffer: &mut [u8], surely: bool, target: &Target) -> bool {
        match at_once(self.source.try_read(buffer), self.source.as_ref(), buffer, surely) {
            Ok(read) if read > 0 => {
                self.pending.extend_from_slice(&buffer[..read]);
                self.emit(target).await;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Ok(_) | Err(_) => self.end(),
        }
        true
    }

    /// Emits records and passes on other frames up to the next record that stands behind a mark.
    async fn emit(&mut self, target: &Target) {
        if let Some((_, record)) = self.held.take() {
            write(&record, target);
        }
        loop {
            let frame = match frame::take(&mut self.pending) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(_) => return self.end(),
            };
            if frame["type"] != "log" {
                self.pass_on(frame).await;
            } else if let Some(mark) = frame["mark"].as_u64() {
                self.held = Some((mark, frame));
                return;
            } else {
                write(&frame, target);
            }
        }
    }

    async fn pass_on(&mut self, frame: Value) {
        if let Some(sender) = &self.sender
            && sender.send(frame).await.is_err()
        {
            self.sender = None;
        }
    }

    fn end(&mut self) {
        self.has_ended = true;
        self.sender = None;
    }
}

fn write(record: &Value, target: &Target) {
    let text = record["message"].as_str().unwrap_or_default();
    target.line(record["level"].as_str().unwrap_or("INFO"), "logging", text);
}

/// What was read, or else, where it has to be sure that nothing is there, what the kernel says: it knows before it is noticed
/// here.
fn at_once(read: io::Result<usize>, source: &impl AsFd, buffer: &mut [u8], surely: bool) -> io::Result<usize> {
    match read {
        Err(error) if surely && error.kind() == ErrorKind::WouldBlock => {
            Ok(rustix::io::retry_on_intr(|| rustix::io::read(source, &mut *buffer))?)
        }
        read => read,
    }
}
