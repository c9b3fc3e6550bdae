//! The end of a life: pod, then claim, then the rest, each only after the one before is gone; so that what is told to be free
//! is free.

use super::{Desired, Step, state};
use crate::{
    chip::Kind,
    error::Result,
    life::Life,
    names::{self, HOLDER},
    observe::Seen,
    render::{FENCE, GONE, GRACE, STATE, STOP},
};
use domain::{device::WHOLE_MILLI, id::HolderId};
use k8s_openapi::api::{
    core::v1::{Pod, Secret, Service},
    networking::v1::NetworkPolicy,
    resource::v1::ResourceClaim,
};
use kube::{ResourceExt as _, api::ListParams};
use proto::internal::v1::RuntimePhase;
use serde_json::json;
use std::collections::BTreeMap;

impl Step<'_> {
    /// Ends it: pod, then claim, then the rest; each only after the one before is gone.
    pub(super) async fn stop(&self, desired: &Desired, grace_s: u64) -> Result<()> {
        let Some(life) = &desired.life else {
            // Told to stop what is not there.
            self.report(desired, Seen { phase: RuntimePhase::Gone, ..Seen::default() });
            return Ok(());
        };
        let (name, holder) = (names::object(&life.workspace, life.number), life.holder.to_string());
        let record = self.written(desired, &name).await?;
        let Some(record) = record.filter(|record| names::label(&record.metadata, HOLDER) == Some(&holder)) else {
            // It never came so far; but others may have left the claim to it.
            if self.without_shared_claim(life).await? {
                self.report(desired, Seen { phase: RuntimePhase::Gone, ..Seen::default() });
            }
            return Ok(());
        };
        if state(&record) == GONE {
            self.report(desired, Seen { phase: RuntimePhase::Gone, ..Seen::default() });
            return Ok(());
        }
        if state(&record) != STOP {
            let note = json!({ STATE: STOP, FENCE: desired.fence.to_string(), GRACE: grace_s.to_string() });
            self.note(desired, &name, note).await?;
        }
        self.report(desired, Seen { phase: RuntimePhase::Stopping, ..Seen::default() });
        if self.ended(life, u32::try_from(grace_s).unwrap_or(u32::MAX)).await? {
            self.note(desired, &name, json!({ STATE: GONE, FENCE: desired.fence.to_string() })).await?;
            self.report(desired, Seen { phase: RuntimePhase::Gone, ..Seen::default() });
        }
        Ok(())
    }

    /// Whether nothing is left but the record; asks for the next removal otherwise.
    async fn ended(&self, life: &Life, grace_s: u32) -> Result<bool> {
        let name = &*names::object(&life.workspace, life.number);
        let pods = self.cluster.api::<Pod>();
        if let Some(pod) = pods.get_opt(name).await? {
            if pod.metadata.deletion_timestamp.is_none() {
                self.cluster.delete(&pods, name, pod.uid(), Some(grace_s)).await?;
            }
            return Ok(false);
        }
        // With its finalizer it stays until its devices are free.
        if !self.without_claim(name).await? || !self.without_shared_claim(life).await? {
            return Ok(false);
        }
        self.cluster.delete(&self.cluster.api::<Service>(), name, None, None).await?;
        self.cluster.delete(&self.cluster.api::<NetworkPolicy>(), name, None, None).await?;
        Ok(true)
    }

    /// Whether a claim is gone; asks for its removal otherwise.
    async fn without_claim(&self, name: &str) -> Result<bool> {
        let claims = self.cluster.api::<ResourceClaim>();
        let Some(claim) = claims.get_opt(name).await? else { return Ok(true) };
        if claim.metadata.deletion_timestamp.is_none() {
            self.cluster.delete(&claims, name, claim.uid(), None).await?;
        }
        Ok(false)
    }

    /// Whether the claim that it shared is gone, or is there for others. One of them may come this very moment: then its
    /// pod waits, and [`Step::claim_of`] makes the claim again.
    async fn without_shared_claim(&self, life: &Life) -> Result<bool> {
        let [grant] = life.grants.as_slice() else { return Ok(true) };
        let name = names::shared_claim(&grant.device);
        // A chip may have been taken away, or out of sharing, since.
        let may_be = grant.milli < WHOLE_MILLI
            && (self.watched_claim(&name).is_some()
                || self.inventory.chip(&grant.device).is_some_and(|chip| matches!(chip.kind, Kind::Mps { .. })));
        let has_part = |(holder, chip): (&HolderId, &String)| *holder != life.holder && *chip == grant.device;
        if !may_be || self.shared.iter().any(has_part) {
            return Ok(true);
        }
        let users = names::selector(&BTreeMap::from([(names::SHARED_CLAIM, name.as_str())]));
        let users = self.cluster.api::<Pod>().list(&ListParams::default().labels(&users).limit(1)).await?;
        if users.items.is_empty() { self.without_claim(&name).await } else { Ok(true) }
    }

    /// Takes the record away, which is the last.
    pub(super) async fn forget(&self, desired: &Desired) -> Result<()> {
        if let Some(life) = &desired.life {
            let (api, name) = (self.cluster.api::<Secret>(), names::object(&life.workspace, life.number));
            let record = api.get_opt(&name).await?;
            let holder = life.holder.to_string();
            // The uid: a record of this name may be another's by now.
            if let Some(record) = record.filter(|record| names::label(&record.metadata, HOLDER) == Some(&holder)) {
                self.cluster.delete(&api, &name, record.uid(), None).await?;
            }
        }
        Ok(())
    }
}
