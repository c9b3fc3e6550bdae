//! A forked Python process that can be given jobs, one after the other: what it says, what it prints, how it ends.

use super::{outcome, printing::Target, said::Said};
use crate::{
    attempt::{Attempt, AttemptId},
    logs::AttemptLog,
    views::View,
};
use backend_process::{
    Child, Exit, Living, Zygote,
    process::{is_alive, signal_group},
};
use proto::internal::v1::{OutputRef, result::Outcome};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// For the end of a process that has nothing left to do, before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// After the end of a process, for what it printed last.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// For lines that were printed before a result, to arrive before the result goes out.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// A pipe that is open so long after the end is held by a process that left the group.
const HELD_AFTER: Duration = Duration::from_millis(100);
/// Between two looks whether a process is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Frames for one process that it has not read.
const CONTROL_MAX: usize = 64;

/// See the module's page.
pub(crate) struct JobChild {
    pid: i32,
    living: Living,
    control: mpsc::Sender<Value>,
    frames: mpsc::Receiver<Value>,
    ending: watch::Receiver<Option<Exit>>,
    target: Target,
    said: Said,
    /// The attempts that completed in it, whose outputs may lie in its memory: block, child and lease.
    completed: HashSet<(String, i32, i64)>,
    /// Held as long as it may write there.
    _view: View,
    /// It would end with it.
    _zygote: Arc<Zygote>,
}

impl JobChild {
    /// Takes over a child that was forked for an attempt.
    pub(crate) fn new((child, zygote): (Child, Arc<Zygote>), living: Living, view: View, log: &AttemptLog) -> Self {
        let Child { pid, stdout, stderr, frames, control: mut channel, ending: end } = child;
        living.lead(pid);
        let target = Target::default();
        target.set(Some(log.clone()));
        let (said, frames) = Said::start([stdout, stderr], frames, target.clone());
        // Apart from the one who supervises: a process that does not read must still be told to stop.
        let (control, mut orders) = mpsc::channel::<Value>(CONTROL_MAX);
        tokio::spawn(async move {
            while let Some(order) = orders.recv().await {
                if channel.send(&order).await.is_err() {
                    break;
                }
            }
        });
        let (told, ending) = watch::channel(None);
        tokio::spawn(async move {
            // Nobody may be interested any more.
            let _ = told.send(Some(end.wait().await));
        });
        Self {
            pid,
            living,
            control,
            frames,
            ending,
            target,
            said,
            completed: HashSet::new(),
            _view: view,
            _zygote: zygote,
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it can take another job.
    pub(crate) fn is_alive(&self) -> bool {
        self.ending.borrow().is_none() && !self.control.is_closed()
    }

    /// From here on it works for another attempt.
    pub(crate) fn serve(&self, log: &AttemptLog) {
        self.target.set(Some(log.clone()));
    }

    /// An attempt has completed in it.
    pub(crate) fn has_completed(&mut self, attempt: &AttemptId) {
        self.completed.insert((attempt.block.clone(), attempt.child, attempt.lease));
    }

    /// Whether all that an attempt reads was made in it. A run that begins again, or tries a block again, may have got a new
    /// process, in which nothing lies of what the former one made.
    pub(crate) fn has_inputs_of(&self, attempt: &Attempt) -> bool {
        let mut inputs = attempt.assignment.inputs.iter();
        inputs.all(|input| {
            let made = |output: &OutputRef| self.completed.contains(&(input.block.clone(), output.child, output.lease));
            input.outputs.iter().all(made)
        })
    }

    /// Sends a frame; false when it reads none any more.
    pub(crate) fn tell(&self, frame: Value) -> bool {
        self.control.try_send(frame).is_ok()
    }

    /// Its next frame that is no log record; none when it closed the channel. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        self.frames.recv().await
    }

    async fn exit(&mut self) -> Exit {
        match self.ending.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::ZygoteGone),
            Err(_) => Exit::ZygoteGone,
        }
    }

    /// Returns when the process is gone. A zygote that died cannot tell when its children follow it.
    async fn gone(&mut self) {
        if self.exit().await == Exit::ZygoteGone {
            while is_alive(self.pid) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Returns when the lines that it printed before its result are in the log.
    pub(crate) async fn flush(&self) {
        self.said.flush(FLUSH_TIMEOUT).await;
    }

    /// SIGTERM to all of its group, the grace, SIGKILL. What it still says meanwhile is listened to, lest it waits.
    pub(crate) async fn stop(mut self, grace: Duration) {
        signal_group(self.pid, Signal::TERM);
        let until = tokio::time::sleep(grace);
        tokio::pin!(until);
        let mut ending = self.ending.clone();
        loop {
            tokio::select! {
                _ = ending.wait_for(Option::is_some) => break,
                () = &mut until => break,
                Some(_) = self.next() => {}
            }
        }
        self.sweep().await;
    }

    /// It ended, or closed its channel, before it had a result.
    pub(crate) async fn crashed(mut self) -> Outcome {
        let exit = tokio::time::timeout(END_TIMEOUT, self.exit()).await.ok();
        self.sweep().await;
        outcome::of_exit(exit)
    }

    /// Ends a process that is no longer needed, and whatever it has left.
    pub(crate) async fn end(mut self) {
        self.tell(json!({ "type": "end" }));
        // Nobody takes what it still asks for; what it prints must not wait for that.
        self.frames.close();
        // Whoever does not end by then is killed by the sweep.
        let _ = tokio::time::timeout(END_TIMEOUT, self.exit()).await;
        self.sweep().await;
    }

    /// Kills the whole group, its leader included; then takes the last of what was printed. A process that left the
    /// group and still holds a pipe is killed at once, one that holds none by the next regular sweep.
    async fn sweep(&mut self) {
        self.frames.close();
        signal_group(self.pid, Signal::KILL);
        let _ = tokio::time::timeout(END_TIMEOUT, self.gone()).await;
        self.living.end();
        if !self.said.ended(HELD_AFTER).await {
            self.living.sweep().await;
            if !self.said.ended(DRAIN_TIMEOUT).await {
                self.said.stop();
            }
        }
        self.target.set(None);
    }
}

impl Drop for JobChild {
    /// Whatever way it is given up, its group does not outlive it. Killing a group that is gone does nothing.
    fn drop(&mut self) {
        if self.ending.borrow().is_none() {
            signal_group(self.pid, Signal::KILL);
        }
    }
}
