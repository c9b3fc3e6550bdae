//! Devices of an attempt elsewhere: wished for before its launch, held until its container is gone. Who gets which is
//! decided by the owner of the pool; this waits, and says why.

use super::{RemoteBackend, told};
use crate::{
    attempt::{AttemptId, failed},
    attempts::{Mail, stop_asked},
    core::{CoreEvent, WAIT},
    logs::AttemptLog,
    pool::wishes::{WISHES_MAX, Wished},
};
use backend::{Backend, Device, Devices, Launch, NoDevices, Place};
use proto::internal::v1::{self as pb, result::Outcome};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};

/// What seems not to be possible at all is waited for so long: the pool's executors may only be coming up.
const HOPELESS_AFTER: Duration = Duration::from_secs(30);
/// Who waits for longer holds no slot meanwhile.
const PARKED_AFTER: Duration = Duration::from_secs(1);
/// Attempts that wait without a slot, as many as there are wishes that the pool's owner hears of; others keep theirs.
pub(super) const WAITING_MAX: usize = WISHES_MAX;
/// The number of the call by which one goes on; its code, which has not begun, asks none of this number.
const GOES_ON: i64 = i64::MIN;
/// An attempt asks for devices, and nobody here could give it any.
const NO_POOL: &str = "NO_POOL";

impl<B: Backend> RemoteBackend<B> {
    /// Waits for the devices that a launch asks for, and puts their place into it. What is answered holds them.
    pub(super) async fn devices(
        &self,
        id: &AttemptId,
        launch: &mut Launch,
        (log, mail): (&AttemptLog, &mut Mail),
    ) -> Result<Option<Wished>, Outcome> {
        let asked = match self.backend.devices(launch) {
            Ok(None) => return Ok(None),
            Ok(Some(asked)) => asked,
            Err(NoDevices { code, why }) => return Err(told(log, failed(code, why))),
        };
        let Some(wishes) = &self.parts.wishes else {
            let why = "GPUs are given to blocks by the owner of a pool, which counts them, and this executor knows none: \
                       set `pool` and `jobs_gpu_classes`";
            return Err(told(log, failed(NO_POOL, why)));
        };
        let workspace = launch.labels.get("workspace").cloned().unwrap_or_default();
        let mut wished = wishes.wish(wish(asked, workspace));
        let place = tokio::select! {
            biased;
            _ = stop_asked(&mut mail.order) => return Err(Outcome::Cancelled(pb::Cancelled {})),
            // It may take longer than a drain lasts, and nothing of it runs here yet.
            () = self.parts.shutdown.draining() => return Err(Outcome::Released(pb::Released {})),
            place = self.granted(id, &mut wished, log, &mut mail.replies) => place.map_err(|outcome| told(log, outcome))?,
        };
        launch.place = Some(place);
        Ok(Some(wished))
    }

    /// As [`granted`], without a slot while that takes long: a project whose quota is used up must not keep others' blocks
    /// from this executor. It goes on when it has the permits of its limits again, as who has waited for a run.
    async fn granted(
        &self,
        id: &AttemptId,
        wished: &mut Wished,
        log: &AttemptLog,
        replies: &mut mpsc::Receiver<Value>,
    ) -> Result<Place, Outcome> {
        let granted = granted(wished, log);
        tokio::pin!(granted);
        if let Ok(place) = tokio::time::timeout(PARKED_AFTER, &mut granted).await {
            return place;
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return granted.await };
        // The core has ended only when the process ends.
        let _ = self.parts.core.send(CoreEvent::Parked { id: id.clone(), parked: true }).await;
        let place = granted.await?;
        let _ = self.parts.core.send(CoreEvent::Parked { id: id.clone(), parked: false }).await;
        let arguments = json!({ "run_id": id.run.to_string(), "timeout_s": 0.0 });
        let call = CoreEvent::Call { id: id.clone(), call_id: GOES_ON, method: WAIT.to_owned(), arguments };
        let _ = self.parts.core.send(call).await;
        // Whatever it is; nothing else was asked yet.
        let _ = replies.recv().await;
        Ok(place)
    }
}

/// Waits until there is a place; why there is none yet is told once for each kind of reason.
async fn granted(wished: &mut Wished, log: &AttemptLog) -> Result<Place, Outcome> {
    let mut hopeless: Option<(Instant, pb::Place)> = None;
    let mut said = String::new();
    loop {
        let until = hopeless.as_ref().map_or_else(|| Instant::now() + HOPELESS_AFTER, |(until, _)| *until);
        let Ok(news) = tokio::time::timeout_at(until, wished.news()).await else {
            match hopeless {
                Some((_, place)) => {
                    return Err(failed(&place.code, format!("no GPU for this block: {}", place.message)));
                }
                None => continue,
            }
        };
        if !news.node.is_empty() {
            return Ok(place(news));
        }
        if !news.code.is_empty() && news.code != said {
            log.system("INFO", &format!("waits for a GPU: {} ({})", news.message, news.code));
            said.clone_from(&news.code);
        }
        let until = hopeless.map_or_else(|| Instant::now() + HOPELESS_AFTER, |(until, _)| until);
        hopeless = news.hopeless.then_some((until, news));
    }
}

fn wish(asked: Devices, workspace: String) -> pb::Wish {
    let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    pb::Wish {
        claim: asked.claim,
        workspace,
        class: asked.class,
        count: i32::try_from(asked.count).unwrap_or(i32::MAX),
        milli: i32::try_from(asked.milli).unwrap_or(i32::MAX),
        device_memory_bytes: asked.memory_bytes.map_or(0, signed),
        cpu_milli: signed(asked.cpu_milli),
        memory_bytes: signed(asked.node_memory_bytes),
    }
}

/// All cores, and the least step of them, if there are any.
fn cores((all, step): (i64, i64)) -> Option<(u64, u64)> {
    let all = u64::try_from(all).ok().filter(|all| *all > 0)?;
    Some((all, u64::try_from(step).unwrap_or(1).clamp(1, all)))
}

fn place(place: pb::Place) -> Place {
    let device = |pinned: pb::PinnedDevice| {
        let grant = pinned.grant.unwrap_or_default();
        Device {
            name: grant.device,
            class: pinned.class,
            hardware_id: pinned.hardware_id,
            milli: u32::try_from(grant.milli).unwrap_or(0),
            memory_bytes: u64::try_from(grant.memory_bytes).unwrap_or(0),
            profile: grant.profile,
            cores: cores((pinned.cores, pinned.cores_step)),
        }
    };
    Place { node: place.node, devices: place.devices.into_iter().map(device).collect() }
}
