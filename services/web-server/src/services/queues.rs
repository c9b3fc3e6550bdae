//! Queues: list, set, archive. Refuses to know who is served before whom.

use crate::changed::Changed;
use crate::core::Core;
use crate::disturbed;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::paging::Page;
use crate::people;
use crate::runtimes::spec::{large, signed, signed_small};
use domain::ErrorKind;
use domain::id::QueueId;
use domain::queue::Queue as Definition;
use domain::quota::Excess;
use proto::v1::{
    self, AffectedRuntime, ArchiveQueueRequest, ArchiveQueueResponse, ListQueuesRequest, ListQueuesResponse,
    SetQueueRequest, SetQueueResponse, queue_service_server::QueueService,
};
use rpc::status::Problem;
use std::sync::Arc;
use store::queues::{self, Held, Queue};
use store::runtime_views::{self, Concerned};
use store::{Transaction, runtime_specs};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.QueueService`.
pub(crate) struct Queues(pub(crate) Arc<Core>);

/// What a queue is on the wire.
const KIND: &str = "orrery.v1.Queue";
/// What a page token of this list is for.
const SCOPE: &str = "queues";
/// Priorities of queues, either way.
const PRIORITY_MAX: i32 = 1_000;
/// Weights of queues.
const WEIGHT_MAX: u32 = 1_000;
/// Workspaces that an answer names.
const NAMED_MAX: i64 = 500;

fn message(queue: Queue, held: Option<Held>) -> v1::Queue {
    let definition = queue.definition;
    v1::Queue {
        name: definition.name,
        pool: queue.pool,
        priority: definition.priority,
        preemptible: definition.preemptible,
        deserved_gpu_milli: signed(definition.deserved_milli),
        limit_gpu_milli: definition.limit_milli.map(signed),
        weight: signed_small(definition.weight),
        version: queue.version,
        archived: queue.archived,
        held_gpu_milli: held.map_or(0, |held| signed(held.gpu_milli)),
        running: held.map_or(0, |held| held.running),
        waiting: held.map_or(0, |held| held.waiting),
    }
}

/// What is asked for, as far as a queue by itself can be wrong.
fn decode(queue: &v1::Queue) -> Result<(Definition, String), Fault> {
    people::check_label(&queue.name, "queue.name")?;
    let pool = if queue.pool.is_empty() { "default".to_owned() } else { queue.pool.clone() };
    people::check_label(&pool, "queue.pool")?;
    let weight = match u32::try_from(queue.weight) {
        Ok(0) => 1,
        Ok(weight) if weight <= WEIGHT_MAX => weight,
        _ => return Err(Fault::field("queue.weight", format!("must be 1 to {WEIGHT_MAX}"))),
    };
    if !(-PRIORITY_MAX..=PRIORITY_MAX).contains(&queue.priority) {
        return Err(Fault::field("queue.priority", format!("must be -{PRIORITY_MAX} to {PRIORITY_MAX}")));
    }
    let deserved_milli = large(queue.deserved_gpu_milli, "queue.deserved_gpu_milli")?;
    let limit_milli = queue.limit_gpu_milli.map(|limit| large(limit, "queue.limit_gpu_milli")).transpose()?;
    if limit_milli.is_some_and(|limit| limit < deserved_milli) {
        return Err(Fault::field("queue.limit_gpu_milli", "must not be less than what it deserves"));
    }
    if queue.name == queues::DEFAULT_NAME && pool != "default" {
        return Err(Fault::field("queue.pool", "of the default queue is always `default`"));
    }
    let definition = Definition {
        id: QueueId(uuid::Uuid::now_v7()),
        name: queue.name.clone(),
        priority: queue.priority,
        preemptible: queue.preemptible,
        deserved_milli,
        limit_milli,
        weight,
        recent_use: 0,
    };
    Ok((definition, pool))
}

impl Queues {
    async fn list(&self, caller: &Caller, request: ListQueuesRequest) -> Result<ListQueuesResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("{SCOPE}/{}", request.with_archived);
        let after: String = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let db = self.0.store.client().await?;
        let mut rows = queues::list(&db, caller.sees(), request.with_archived, &after, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |(queue, _)| queue.definition.name.clone())?;
        let everything = caller.sees().is_none();
        let queues = rows.into_iter().map(|(queue, held)| message(queue, everything.then_some(held))).collect();
        Ok(ListQueuesResponse { queues, next_page_token })
    }

    async fn set(&self, request: SetQueueRequest) -> Result<Response<SetQueueResponse>, Fault> {
        let wanted = request.queue.ok_or_else(|| Fault::field("queue", "must say what it shall be"))?;
        let (definition, pool) = decode(&wanted)?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let old = queues::lock(&transaction, &definition.name).await?;
        let was = old.clone().map(|queue| message(queue, None));
        let affected = match old {
            None if wanted.version > 0 => return Err(changed(&definition.name)),
            None => {
                queues::insert(&transaction, &definition, &pool).await?.ok_or_else(|| changed(&definition.name))?;
                Vec::new()
            }
            Some(old) => {
                if wanted.version > 0 && wanted.version != old.version {
                    return Err(changed(&definition.name));
                }
                let definition = Definition { id: old.definition.id, ..definition };
                let affected = affected(&transaction, &old, &definition, &pool).await?;
                disturbed::unless_forced(&affected, request.force)?;
                queues::update(&transaction, &definition, &pool).await?;
                affected
            }
        };
        let queue = queues::get(&transaction, &wanted.name).await?.map(|queue| message(queue, None));
        transaction.commit().await.map_err(store::Error::from)?;
        let changed = Changed::between(KIND, "queue", was.as_ref(), queue.as_ref());
        Ok(changed.told_with(SetQueueResponse { queue, affected }))
    }

    async fn archive(&self, name: &str) -> Result<Response<ArchiveQueueResponse>, Fault> {
        if name == queues::DEFAULT_NAME {
            return Err(Fault::field("name", "must not be `default`: that queue is always there"));
        }
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let queue = queues::lock(&transaction, name).await?.ok_or_else(|| none(name))?;
        let id = queue.definition.id;
        let concerned = Concerned { queue: Some(id), ..Concerned::default() };
        let alive = runtime_views::alive(&transaction, &concerned).await?;
        if let Some(first) = alive.first() {
            let message = format!(
                "{} runtimes wait or run in queue `{name}`, such as that of `{}`",
                alive.len(),
                first.workspace
            );
            let problem = Problem::new(ErrorKind::FailedPrecondition, "QUEUE_IN_USE", message);
            return Err(Fault(problem.remedy("stop them, or switch them to another queue")));
        }
        queues::archive(&transaction, id).await?;
        let workspaces = runtime_specs::of_queue(&transaction, id, NAMED_MAX).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        let changed = Changed::of("queue.archived", Some(queue.archived), Some(true));
        Ok(changed.told_with(ArchiveQueueResponse { workspaces }))
    }
}

/// To whom a change of a queue means something. A pool cannot change under them.
async fn affected(
    db: &Transaction<'_>,
    old: &Queue,
    new: &Definition,
    pool: &str,
) -> Result<Vec<AffectedRuntime>, Fault> {
    let concerned = Concerned { queue: Some(new.id), ..Concerned::default() };
    let alive = runtime_views::alive(db, &concerned).await?;
    if old.pool != pool && !alive.is_empty() {
        let message =
            format!("queue `{}` is served from pool `{}`, and {} runtimes are in it", new.name, old.pool, alive.len());
        let problem = Problem::new(ErrorKind::FailedPrecondition, "QUEUE_IN_USE", message);
        return Err(Fault(problem.remedy("stop them, or make another queue for the other pool")));
    }
    let placed = alive.iter().filter(|life| life.state != "starting" || life.placed);
    let held: u64 = placed.map(|life| life.spec.ask.effective_milli()).sum();
    // What exceeds the new limit, and did not exceed the old one.
    let newly = |milli: u64| {
        let over = |limit: &u64| milli > *limit;
        new.limit_milli.filter(over).filter(|_| old.definition.limit_milli.filter(over).is_none())
    };
    let newly_over = newly(held).is_some();
    let newly_preemptible = new.preemptible && !old.definition.preemptible;
    Ok(disturbed::affected(&alive, |life| {
        if newly_preemptible {
            let when = if disturbed::waits(life) { "once it runs" } else { "from then on" };
            return Some(format!("may be stopped for others {when}"));
        }
        let asked = life.spec.ask.effective_milli();
        if let Some(limit) = newly(asked) {
            let gpus = |milli: u64| Excess { what: "GPU".to_owned(), limit: 0, used: 0, wanted: 0 }.spoken(milli);
            let why = format!("it asks for {}, and the queue's limit is {}", gpus(asked), gpus(limit));
            return Some(disturbed::barred(life, &why));
        }
        let meanwhile = "nothing new starts in the queue until it holds less";
        newly_over.then(|| disturbed::kept_back(life, "goes on", meanwhile))
    }))
}

/// There is no such queue.
pub(crate) fn none(name: &str) -> Fault {
    let message = format!("there is no queue `{name}`; `orrery queues` lists them");
    Fault::new(ErrorKind::NotFound, "QUEUE_NOT_FOUND", message)
}

fn changed(name: &str) -> Fault {
    let message = format!("queue `{name}` is not in the version that was edited; read it again");
    Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", message)
}

#[async_trait]
impl QueueService for Queues {
    async fn list_queues(&self, request: Request<ListQueuesRequest>) -> Result<Response<ListQueuesResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }

    async fn set_queue(&self, request: Request<SetQueueRequest>) -> Result<Response<SetQueueResponse>, Status> {
        Ok(self.set(request.into_inner()).await?)
    }

    async fn archive_queue(
        &self,
        request: Request<ArchiveQueueRequest>,
    ) -> Result<Response<ArchiveQueueResponse>, Status> {
        Ok(self.archive(&request.get_ref().name).await?)
    }
}
