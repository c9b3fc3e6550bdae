//! Volumes of projects: made, listed, grown and taken away, within the project's quota. Refuses to know where files lie.

use crate::changed::Changed;
use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::paging::Page;
use crate::{idempotent, people};
use domain::ErrorKind;
use domain::id::{ProjectId, VolumeId};
use domain::quota::Usage;
use proto::v1::{
    self, CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest, DeleteVolumeResponse, GrowVolumeRequest,
    GrowVolumeResponse, ListVolumesRequest, ListVolumesResponse, VolumeState, VolumeUse,
    volume_service_server::VolumeService,
};
use std::sync::Arc;
use store::volumes::{self, New, Use, Volume};
use store::{Transaction, policies, projects, quotas};
use tonic::{Request, Response, Status, async_trait};
use uuid::Uuid;

/// Serves `orrery.v1.VolumeService`.
pub(crate) struct Volumes(pub(crate) Arc<Core>);

/// Volumes of one project, with those of which executors may still have to hear that they are deleted.
const VOLUMES_MAX: i64 = 500;
/// Bytes of one volume.
const SIZE: std::ops::RangeInclusive<i64> = 1 << 20..=1 << 50;
/// What the trail tells of one.
const SIZE_FIELD: &str = "size_bytes";
/// Runtimes that are shown of one volume, and that are read for one answer.
const USES_MAX: (usize, i64) = (100, 10_000);
/// Workspaces that a refusal names.
const NAMED_MAX: usize = 5;
/// The pool when none is named.
const DEFAULT_POOL: &str = "default";

fn message(project: &str, volume: Volume, uses: &[Use]) -> v1::Volume {
    let state = match volume.state.as_deref() {
        _ if volume.deleted => VolumeState::Deleting,
        None => VolumeState::Waiting,
        Some("ready") => VolumeState::Ready,
        Some(_) => VolumeState::Failed,
    };
    let own = uses.iter().filter(|one| one.volume == volume.id).take(USES_MAX.0);
    let uses = own.map(|one| VolumeUse {
        workspace: one.workspace.clone(),
        since: Some(rpc::timestamp::to_proto(one.since)),
        read_only: one.read_only,
    });
    v1::Volume {
        id: volume.id.to_string(),
        project: project.to_owned(),
        name: volume.name,
        pool: volume.pool,
        size_bytes: volume.size_bytes,
        capacity_bytes: volume.capacity_bytes,
        state: state.into(),
        message: volume.message,
        created_at: Some(rpc::timestamp::to_proto(volume.created_at)),
        created_by: volume.created_by,
        storage_class: volume.storage_class,
        uses: uses.collect(),
    }
}

fn check_size(size_bytes: i64) -> Result<(), Fault> {
    if SIZE.contains(&size_bytes) {
        return Ok(());
    }
    Err(Fault::field("size_bytes", format!("must be {} to {} bytes: 1 MiB to 1 PiB", SIZE.start(), SIZE.end())))
}

fn no_volume(project: &str, name: &str) -> Fault {
    let message = format!("project `{project}` has no volume `{name}`; `orrery volumes` lists those that it has");
    Fault::new(ErrorKind::NotFound, "VOLUME_NOT_FOUND", message)
}

impl Volumes {
    async fn create(&self, caller: &Caller, request: CreateVolumeRequest) -> Result<CreateVolumeResponse, Fault> {
        let key = idempotent::Key::of(caller, "CreateVolume", &request.idempotency_key, &request)?;
        people::check_label(&request.name, "name")?;
        check_size(request.size_bytes)?;
        let (name, project) = (&*request.name, &*request.project);
        let pool = if request.pool.is_empty() { DEFAULT_POOL } else { &*request.pool };
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = key.answered(&transaction).await? {
            return Ok(answer);
        }
        let owner = found(&transaction, project).await?;
        if !volumes::is_pool(&transaction, pool).await? {
            let message = format!("no queue is served from pool `{pool}`; `orrery queues` lists them with their pools");
            return Err(Fault::new(ErrorKind::FailedPrecondition, "POOL_NOT_FOUND", message));
        }
        self.0.storage_classes.check(pool, &request.storage_class)?;
        volumes::tidy(&transaction, owner).await?;
        let count = charge(&transaction, owner, project, request.size_bytes).await?;
        if count >= VOLUMES_MAX {
            let message = format!(
                "project `{project}` has {count} volumes, with those that were deleted within 30 days, and more are not \
                 kept; use those that it has"
            );
            return Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_VOLUMES", message));
        }
        let id = VolumeId(Uuid::now_v7());
        let (size_bytes, storage_class, created_by) =
            (request.size_bytes, &*request.storage_class, Some(caller.user.id));
        let new = New { id, project: owner, name, pool, size_bytes, storage_class, created_by };
        if !volumes::insert(&transaction, &new).await? {
            let message = format!("project `{project}` has a volume `{name}`; choose another name, or grow that one");
            return Err(Fault::new(ErrorKind::AlreadyExists, "VOLUME_EXISTS", message));
        }
        let volume = message(project, volumes::get(&transaction, id).await?, &[]);
        let answer = CreateVolumeResponse { volume: Some(volume) };
        key.record(&transaction, &answer).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn list(&self, request: ListVolumesRequest) -> Result<ListVolumesResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("volumes/{}", request.project);
        let after: (String, Uuid) = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let db = self.0.store.client().await?;
        let project = projects::get(&db, &request.project).await?;
        let project = project.ok_or_else(|| Fault::no_project(&request.project))?;
        let mut rows = volumes::list(&db, project.id, (&after.0, after.1), page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |volume| (volume.name.clone(), volume.id.0))?;
        let ids: Vec<VolumeId> = rows.iter().map(|volume| volume.id).collect();
        let uses = volumes::uses(&db, project.id, &ids, USES_MAX.1).await?;
        let volumes = rows.into_iter().map(|volume| message(&project.name, volume, &uses)).collect();
        Ok(ListVolumesResponse { volumes, next_page_token })
    }

    async fn grow(&self, request: GrowVolumeRequest) -> Result<Response<GrowVolumeResponse>, Fault> {
        check_size(request.size_bytes)?;
        let (name, project) = (&*request.name, &*request.project);
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let owner = found(&transaction, project).await?;
        // The project's lock first: whoever makes or grows a volume waits there for the others.
        volumes::lock_usage(&transaction, owner).await?;
        // And its group's before the volume's: so does the ledger, which takes volumes last.
        quotas::lock_group_of(&transaction, owner).await?;
        let locked = volumes::lock(&transaction, owner, name).await?;
        let (id, size_bytes) = locked.ok_or_else(|| no_volume(project, name))?;
        if request.size_bytes < size_bytes {
            let message = format!(
                "volume `{name}` has {size_bytes} bytes and never gets smaller: files may be anywhere in it; make a \
                 smaller one, copy what is needed, and delete this one"
            );
            return Err(Fault::new(ErrorKind::FailedPrecondition, "VOLUME_SMALLER", message));
        }
        if request.size_bytes > size_bytes {
            charge(&transaction, owner, project, request.size_bytes - size_bytes).await?;
            if !volumes::grow(&transaction, id, request.size_bytes).await? {
                return Err(no_volume(project, name));
            }
        }
        let volume = volumes::get(&transaction, id).await?;
        let uses = volumes::uses(&transaction, owner, &[id], USES_MAX.1).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        let changed = Changed::of(SIZE_FIELD, Some(size_bytes), Some(request.size_bytes));
        Ok(changed.told_with(GrowVolumeResponse { volume: Some(message(project, volume, &uses)) }))
    }

    async fn delete(&self, request: DeleteVolumeRequest) -> Result<Response<DeleteVolumeResponse>, Fault> {
        let (name, project) = (&*request.name, &*request.project);
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let owner = found(&transaction, project).await?;
        let locked = volumes::lock(&transaction, owner, name).await?;
        let (id, size_bytes) = locked.ok_or_else(|| no_volume(project, name))?;
        // A life that begins from here on finds it no more; one that began before is seen by the next statement.
        volumes::delete(&transaction, id).await?;
        let uses = volumes::uses(&transaction, owner, &[id], USES_MAX.1).await?;
        if !uses.is_empty() {
            let first: Vec<String> = uses.iter().take(NAMED_MAX).map(|one| format!("`{}`", one.workspace)).collect();
            let more = if uses.len() > NAMED_MAX { " and others" } else { "" };
            let message =
                format!("volume `{name}` is mounted by the runtime of {}{more}; stop it first", first.join(", "));
            return Err(Fault::new(ErrorKind::FailedPrecondition, "VOLUME_IN_USE", message));
        }
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(Changed::of(SIZE_FIELD, Some(size_bytes), None::<i64>).told_with(DeleteVolumeResponse {}))
    }
}

async fn found(db: &Transaction<'_>, name: &str) -> Result<ProjectId, Fault> {
    let project = projects::get(db, name).await?;
    Ok(project.ok_or_else(|| Fault::no_project(name))?.id)
}

/// Holds bytes that a project would have more against its quota, with what its runtimes have, and keeps whoever else gives
/// storage of it waiting until the transaction ends. Answers how many volumes are remembered.
///
/// # Errors
/// When it would hold more than it may; then the transaction must not be committed.
async fn charge(db: &Transaction<'_>, project: ProjectId, name: &str, bytes: i64) -> Result<i64, Fault> {
    let mut used = volumes::lock_usage(db, project).await?;
    let (volume_bytes, count) = volumes::sum(db, project).await?;
    used.storage_bytes = used.storage_bytes.saturating_add(volume_bytes);
    let quota = policies::get(db, project).await?.unwrap_or_default().rules.quota;
    let more = Usage { storage_bytes: bytes.unsigned_abs(), ..Usage::default() };
    let Some(excess) = quota.excess(&used, &more) else {
        return charge_group(db, project, name, &more).await.map(|()| count);
    };
    let (limit, held, wanted) = (excess.spoken(excess.limit), excess.spoken(excess.used), excess.spoken(excess.wanted));
    let message = format!(
        "project `{name}` may hold {limit}, holds {held}, {} MiB of it in volumes, and this would add {wanted}; delete \
         volumes, stop runtimes that have disk of their own, or ask an administrator for more (`orrery projects policy \
         {name} --storage`)",
        volume_bytes >> 20
    );
    Err(Fault::new(ErrorKind::ResourceExhausted, "QUOTA_EXCEEDED", message))
}

/// Against the quota of the group that owns the project, in the same way.
async fn charge_group(db: &Transaction<'_>, project: ProjectId, name: &str, more: &Usage) -> Result<(), Fault> {
    let Some((quota, used)) = quotas::lock_group_of(db, project).await? else { return Ok(()) };
    let Some(excess) = quota.excess(&used, more) else { return Ok(()) };
    let (limit, held, wanted) = (excess.spoken(excess.limit), excess.spoken(excess.used), excess.spoken(excess.wanted));
    let message = format!(
        "the group that owns project `{name}` may hold {limit} in all its projects, holds {held}, and this would add {wanted}; \
         delete volumes of any of these, stop runtimes that have disk of their own, or ask an administrator for more (`orrery \
         groups policy … --storage`)"
    );
    Err(Fault::new(ErrorKind::ResourceExhausted, "QUOTA_EXCEEDED", message))
}

#[async_trait]
impl VolumeService for Volumes {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.create(&caller, request.into_inner()).await?))
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn grow_volume(&self, request: Request<GrowVolumeRequest>) -> Result<Response<GrowVolumeResponse>, Status> {
        Ok(self.grow(request.into_inner()).await?)
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        Ok(self.delete(request.into_inner()).await?)
    }
}
