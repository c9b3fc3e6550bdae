//! The one transaction by which a pool changes.
//!
//! It counts only under the epoch of its shard. Capacity comes back before it is given; projects, groups, persons, devices and
//! nodes are locked in this order, each by id. What a quota of one of these or a device has no room for is left out, alone,
//! and told; everything else is written.

use super::{
    rows::{Event, Placement, PlacementState, StoredLife, signed, unsigned},
    shared::Shared,
};
use crate::{Error, Store, query, shards::Shard, volumes};
use deadpool_postgres::{GenericClient, Transaction};
use domain::{
    device::{DeviceModel, WHOLE_MILLI},
    id::{DeviceId, HolderId, ProjectId, QueueId, VolumeId, WorkspaceId},
    quota::{Account, Excess, Quota, Usage},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use tokio_postgres::Row;
use uuid::Uuid;

/// What is to be written.
#[derive(Debug, Default)]
pub struct Batch {
    /// Lives that changed.
    pub changed: Vec<StoredLife>,
    /// Lives that begin, after what is changed.
    pub begun: Vec<StoredLife>,
    /// What their timelines tell.
    pub events: Vec<Event>,
    /// Nothing of these is left, and whose quota they used.
    pub released: Vec<(HolderId, ProjectId)>,
    /// These were told to leave.
    pub releasing: Vec<HolderId>,
    /// These count for other queues from now on.
    pub moved: Vec<(HolderId, QueueId)>,
    /// Decisions that may lose.
    pub acts: Vec<Act>,
}

/// A decision of a planner, done whole or not at all.
#[derive(Debug)]
pub struct Act {
    /// Who gets what; in the place of a nomination, if there is one. Several are a gang.
    pub placements: Vec<Placement>,
    /// Lives that it changes.
    pub lives: Vec<StoredLife>,
    /// What their timelines tell.
    pub events: Vec<Event>,
    /// Who is told to leave for it.
    pub releasing: Vec<HolderId>,
}

/// Why an act was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// The project, the group that owns it, or the person who starts it would hold too much by now.
    Quota(Account, Excess),
    /// The device has not that much left.
    Device(DeviceId),
}

/// What became of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// Written, but for the acts of these holders.
    Done(Vec<(HolderId, Lost)>),
    /// Nothing is written: the shard has another owner.
    Stale,
    /// Nothing is written: the last lives of these workspaces have not ended.
    Alive(Vec<WorkspaceId>),
    /// Nothing is written: lives that begin mount these volumes, which are being deleted.
    NoVolumes(Vec<VolumeId>),
    /// Nothing is written: rows are not what the caller believes.
    Drifted,
}

/// Writes a batch. The outcome of an error is not known; [`super::load`] finds out.
///
/// # Errors
/// When the database does not answer.
pub async fn commit(store: &Store, shard: Shard, pool: &str, batch: &Batch) -> Result<Outcome, Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    if !guard(&transaction, shard).await? {
        return Ok(Outcome::Stale);
    }
    let mut accounts = Accounts::lock(&transaction, batch).await?;
    accounts.release(&transaction, batch).await?;
    let (acts, lost) = accounts.choose(&transaction, &batch.acts).await?;
    accounts.write(&transaction).await?;
    place(&transaction, pool, &acts).await?;
    let releasing: Vec<Uuid> =
        batch.releasing.iter().chain(acts.iter().flat_map(|act| &act.releasing)).map(|id| id.0).collect();
    if !releasing.is_empty() {
        query::execute(&transaction, include_str!("../../sql/placement/set_releasing.sql"), &[&releasing]).await?;
    }
    for (holder, queue) in &batch.moved {
        let sql = include_str!("../../sql/placement/set_queue.sql");
        query::execute(&transaction, sql, &[&holder.0, &queue.0]).await?;
    }
    if !update(&transaction, batch.changed.iter()).await? {
        return Ok(Outcome::Drifted);
    }
    let gone = volumes::gone(&transaction, batch.begun.iter().map(|stored| &*stored.life.spec)).await?;
    if !gone.is_empty() {
        return Ok(Outcome::NoVolumes(gone));
    }
    let alive = begin(&transaction, pool, &batch.begun).await?;
    if !alive.is_empty() {
        return Ok(Outcome::Alive(alive));
    }
    if !update(&transaction, acts.iter().flat_map(|act| &act.lives)).await? {
        return Ok(Outcome::Drifted);
    }
    let events = batch.events.iter().chain(acts.iter().flat_map(|act| &act.events));
    let events: Vec<Value> = events.map(Event::to_json).collect();
    if !events.is_empty() {
        let sql = include_str!("../../sql/runtime_event/insert.sql");
        query::execute(&transaction, sql, &[&Value::Array(events)]).await?;
    }
    transaction.commit().await?;
    Ok(Outcome::Done(lost))
}

/// Whether the shard is owned in its epoch; then it stays so until the transaction ends.
pub(super) async fn guard(db: &impl GenericClient, shard: Shard) -> Result<bool, Error> {
    Ok(query::row(db, include_str!("../../sql/shard/guard.sql"), &[&shard.id, &shard.epoch]).await?.is_some())
}

async fn place(db: &Transaction<'_>, pool: &str, acts: &[&Act]) -> Result<(), Error> {
    if acts.is_empty() {
        return Ok(());
    }
    let all = || acts.iter().flat_map(|act| &act.placements);
    let placements = Value::Array(all().map(Placement::to_json).collect());
    query::execute(db, include_str!("../../sql/placement/insert.sql"), &[&pool, &placements]).await?;
    let grants: Vec<Value> = all().flat_map(Placement::grants_to_json).collect();
    if !grants.is_empty() {
        let grants = Value::Array(grants);
        query::execute(db, include_str!("../../sql/grant_of_device/insert.sql"), &[&grants]).await?;
    }
    Ok(())
}

async fn update(db: &Transaction<'_>, lives: impl Iterator<Item = &StoredLife>) -> Result<bool, Error> {
    let rows: Vec<Value> = lives.map(StoredLife::to_json).collect();
    if rows.is_empty() {
        return Ok(true);
    }
    let count = rows.len() as u64;
    let written = query::execute(db, include_str!("../../sql/runtime/update.sql"), &[&Value::Array(rows)]).await?;
    Ok(written == count)
}

/// Answers the workspaces whose last lives have not ended.
async fn begin(db: &Transaction<'_>, pool: &str, lives: &[StoredLife]) -> Result<Vec<WorkspaceId>, Error> {
    if lives.is_empty() {
        return Ok(Vec::new());
    }
    let rows = Value::Array(lives.iter().map(StoredLife::to_whole_json).collect());
    let begun = query::rows(db, include_str!("../../sql/runtime/insert.sql"), &[&pool, &rows]).await?;
    let begun: HashSet<Uuid> = begun.iter().map(|row| row.get("workspace_id")).collect();
    Ok(lives.iter().map(|stored| stored.life.workspace).filter(|id| !begun.contains(&id.0)).collect())
}

/// What the projects of a batch, their groups and its persons hold, while their rows are locked.
struct Accounts {
    usage: BTreeMap<ProjectId, Usage>,
    shared: Shared,
}

impl Accounts {
    async fn lock(db: &Transaction<'_>, batch: &Batch) -> Result<Self, Error> {
        let released = batch.released.iter().map(|(_, project)| *project);
        let projects: BTreeSet<ProjectId> =
            released.chain(placements(&batch.acts).map(|placement| placement.project)).collect();
        let ids: Vec<Uuid> = projects.into_iter().map(|id| id.0).collect();
        if ids.is_empty() {
            return Ok(Self { usage: BTreeMap::new(), shared: Shared::default() });
        }
        query::execute(db, include_str!("../../sql/project_usage/ensure.sql"), &[&ids]).await?;
        let rows = query::rows(db, include_str!("../../sql/project_usage/lock.sql"), &[&ids]).await?;
        let usage = rows.iter().map(|row| (ProjectId(row.get("project_id")), usage(row, ""))).collect();
        Ok(Self { usage, shared: Shared::lock(db, placements(&batch.acts)).await? })
    }

    /// Takes back what is released, and the nominations that acts take the place of.
    async fn release(&mut self, db: &Transaction<'_>, batch: &Batch) -> Result<(), Error> {
        let released = batch.released.iter().map(|(holder, _)| *holder);
        let held = placements(&batch.acts).filter(|placement| placement.state == PlacementState::Held);
        let holders: Vec<Uuid> = released.chain(held.map(|placement| placement.holder)).map(|id| id.0).collect();
        if holders.is_empty() {
            return Ok(());
        }
        let rows = query::rows(db, include_str!("../../sql/placement/release.sql"), &[&holders]).await?;
        for row in rows {
            let project = ProjectId(row.get("project_id"));
            self.usage.entry(project).or_default().remove(&held_by(&row));
        }
        Ok(())
    }

    /// The acts that quotas and devices have room for, in order; and those that lost.
    async fn choose<'a>(
        &mut self,
        db: &Transaction<'_>,
        acts: &'a [Act],
    ) -> Result<(Vec<&'a Act>, Vec<(HolderId, Lost)>), Error> {
        if acts.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        self.shared.count(db, &self.usage).await?;
        let quotas = quotas(db, acts).await?;
        let mut devices = Devices::lock(db, acts).await?;
        let (mut chosen, mut lost) = (Vec::with_capacity(acts.len()), Vec::new());
        for act in acts {
            match self.take(act, &quotas, &mut devices) {
                Ok(()) => chosen.push(act),
                Err(why) => lost.extend(act.placements.iter().map(|placement| (placement.holder, why.clone()))),
            }
        }
        Ok((chosen, lost))
    }

    /// Takes all that an act gives, or nothing.
    fn take(&mut self, act: &Act, quotas: &HashMap<ProjectId, Terms>, devices: &mut Devices) -> Result<(), Lost> {
        for (at, placement) in act.placements.iter().enumerate() {
            let used = self.usage.entry(placement.project).or_default();
            let more = placement.usage();
            let excess = quotas.get(&placement.project).and_then(|terms| terms.excess(used, &more));
            let excess = excess.map(|excess| (Account::Project(placement.project), excess));
            let excess = excess.or_else(|| self.shared.excess(placement, &more));
            let taken = excess.map_or(Ok(()), |(whose, excess)| Err(Lost::Quota(whose, excess)));
            if let Err(why) = taken.and_then(|()| devices.take(placement).map_err(Lost::Device)) {
                for before in &act.placements[..at] {
                    self.usage.entry(before.project).or_default().remove(&before.usage());
                    self.shared.remove(before);
                    devices.give(before);
                }
                return Err(why);
            }
            used.add(&more);
            self.shared.add(placement);
        }
        Ok(())
    }

    async fn write(&self, db: &Transaction<'_>) -> Result<(), Error> {
        if self.usage.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = self.usage.keys().map(|id| id.0).collect();
        let column =
            |of: fn(&Usage) -> u64| -> Vec<i64> { self.usage.values().map(|usage| signed(of(usage))).collect() };
        let models: Vec<Value> = self.usage.values().map(models).collect();
        let (gpu, cpu) = (column(|usage| usage.gpu_milli), column(|usage| usage.cpu_milli));
        let (memory, holders) = (column(|usage| usage.memory_bytes), column(|usage| usage.holders));
        // A version that knows no storage gives none back: who holds nothing holds no storage.
        let storage = column(|usage| if usage.holders == 0 { 0 } else { usage.storage_bytes });
        let sql = include_str!("../../sql/project_usage/set.sql");
        query::execute(db, sql, &[&ids, &gpu, &models, &cpu, &memory, &storage, &holders]).await?;
        Ok(())
    }
}

/// What is held of devices, while their rows are locked.
struct Devices(HashMap<DeviceId, Held>);

struct Held {
    milli: u32,
    memory: u64,
    memory_max: u64,
    slots: u64,
}

impl Devices {
    async fn lock(db: &Transaction<'_>, acts: &[Act]) -> Result<Self, Error> {
        let grants = placements(acts).flat_map(|placement| &placement.grants);
        let ids: BTreeSet<Uuid> = grants.map(|grant| grant.device.0).collect();
        let ids: Vec<Uuid> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        let rows = query::rows(db, include_str!("../../sql/device/lock.sql"), &[&ids]).await?;
        let held = |row: &Row| Held {
            milli: row.get::<_, i32>("used_milli").unsigned_abs(),
            memory: unsigned(row.get("used_memory")),
            memory_max: unsigned(row.get("memory_bytes")),
            slots: row.get::<_, i64>("used_slots").cast_unsigned(),
        };
        Ok(Self(rows.iter().map(|row| (DeviceId(row.get("id")), held(row))).collect()))
    }

    /// Takes all that a placement gets, or nothing. A nomination takes nothing yet: others are still leaving.
    fn take(&mut self, placement: &Placement) -> Result<(), DeviceId> {
        let nominated = placement.state == PlacementState::Nominated;
        for grant in &placement.grants {
            let fits = self.0.get(&grant.device).is_some_and(|held| {
                held.milli + grant.milli <= WHOLE_MILLI
                    && held.memory.saturating_add(grant.memory_bytes) <= held.memory_max
                    && held.slots & grant.slots == 0
            });
            if !fits && !nominated {
                return Err(grant.device);
            }
        }
        for grant in placement.grants.iter().filter(|_| !nominated) {
            if let Some(held) = self.0.get_mut(&grant.device) {
                held.milli += grant.milli;
                held.memory += grant.memory_bytes;
                held.slots |= grant.slots;
            }
        }
        Ok(())
    }

    /// Gives back what [`Self::take`] took.
    fn give(&mut self, placement: &Placement) {
        for grant in placement.grants.iter().filter(|_| placement.state != PlacementState::Nominated) {
            if let Some(held) = self.0.get_mut(&grant.device) {
                held.milli -= grant.milli;
                held.memory -= grant.memory_bytes;
                held.slots &= !grant.slots;
            }
        }
    }
}

fn placements(acts: &[Act]) -> impl Iterator<Item = &Placement> + Clone {
    acts.iter().flat_map(|act| &act.placements)
}

/// What a project may hold, and what its volumes take of it.
struct Terms {
    quota: Quota,
    volume_bytes: u64,
}

impl Terms {
    /// `used` is written back as what holders have: volumes are counted here and nowhere in it.
    fn excess(&self, used: &Usage, more: &Usage) -> Option<Excess> {
        let mut used = used.clone();
        used.storage_bytes = used.storage_bytes.saturating_add(self.volume_bytes);
        self.quota.excess(&used, more)
    }
}

async fn quotas(db: &Transaction<'_>, acts: &[Act]) -> Result<HashMap<ProjectId, Terms>, Error> {
    let projects: BTreeSet<Uuid> = placements(acts).map(|placement| placement.project.0).collect();
    let projects: Vec<Uuid> = projects.into_iter().collect();
    let rows = query::rows(db, include_str!("../../sql/project_policy/guard.sql"), &[&projects]).await?;
    let terms = |row: &Row| Terms { quota: quota(row), volume_bytes: unsigned(row.get("volume_bytes")) };
    Ok(rows.iter().map(|row| (ProjectId(row.get("project_id")), terms(row))).collect())
}

/// The limits of a row of `project_policy`.
pub(crate) fn quota(row: &Row) -> Quota {
    let limit = |column: &str| row.get::<_, Option<i64>>(column).map(unsigned);
    Quota {
        gpu_milli: limit("gpu_milli"),
        model_milli: read_models(&row.get("model_milli")),
        cpu_milli: limit("cpu_milli"),
        memory_bytes: limit("memory_bytes"),
        storage_bytes: limit("storage_bytes"),
        holders: limit("runtimes"),
    }
}

/// What a row says that a project holds, in columns that begin with `prefix`.
pub(crate) fn usage(row: &Row, prefix: &str) -> Usage {
    let sum = |column: &str| unsigned(row.get(format!("{prefix}{column}").as_str()));
    Usage {
        gpu_milli: sum("gpu_milli"),
        model_milli: read_models(&row.get(format!("{prefix}model_milli").as_str())),
        cpu_milli: sum("cpu_milli"),
        memory_bytes: sum("memory_bytes"),
        storage_bytes: sum("storage_bytes"),
        holders: sum("runtimes"),
    }
}

impl Placement {
    /// What it counts for.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let model = (!self.model.is_empty()).then(|| (DeviceModel::new(&self.model), self.effective_milli));
        Usage {
            gpu_milli: self.effective_milli,
            model_milli: model.into_iter().collect(),
            cpu_milli: self.cpu_milli,
            memory_bytes: self.memory_bytes,
            storage_bytes: self.storage_bytes,
            holders: 1,
        }
    }
}

/// What a row of `placement` counts for.
pub(crate) fn held_by(row: &Row) -> Usage {
    let (model, effective): (&str, u64) = (row.get("model"), unsigned(row.get("effective_milli")));
    Usage {
        gpu_milli: effective,
        model_milli: (!model.is_empty()).then(|| (DeviceModel::new(model), effective)).into_iter().collect(),
        cpu_milli: unsigned(row.get("cpu_milli")),
        memory_bytes: unsigned(row.get("memory_bytes")),
        storage_bytes: unsigned(row.get("storage_bytes")),
        holders: 1,
    }
}

/// Whatever is no number there limits nothing: the web-server writes numbers.
fn read_models(document: &Value) -> BTreeMap<DeviceModel, u64> {
    let entries = document.as_object().into_iter().flatten();
    entries.filter_map(|(model, milli)| Some((DeviceModel::new(model), milli.as_u64()?))).collect()
}

fn models(usage: &Usage) -> Value {
    let held = usage.model_milli.iter().filter(|(_, milli)| **milli > 0);
    held.map(|(model, milli)| (model.as_str().to_owned(), Value::from(*milli)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
