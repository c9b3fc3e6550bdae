//! GPUs and queues as messages. Refuses to add anything up: the database has.

use crate::core::Core;
use crate::fault::Fault;
use crate::sums;
use jiff::Timestamp;
use proto::v1::{Durations, GetGpuStatisticsRequest, GetGpuStatisticsResponse, ModelStatistics, QueueStatistics};
use store::gpu_statistics::{self, Model, Queue, Waits};

/// The longest look back, hours.
const HOURS_MAX: i32 = 168;
/// The look back of a request that names none, hours.
const HOURS_DEFAULT: i32 = 24;

/// How GPUs and queues stand.
pub(crate) async fn read(core: &Core, request: &GetGpuStatisticsRequest) -> Result<GetGpuStatisticsResponse, Fault> {
    let hours = match request.hours {
        0 => HOURS_DEFAULT,
        hours if (1..=HOURS_MAX).contains(&hours) => hours,
        _ => return Err(Fault::field("hours", format!("must be 1 to {HOURS_MAX}"))),
    };
    let db = core.store.client().await?;
    let models = gpu_statistics::models(&db, &request.pool).await?;
    let queues = gpu_statistics::queues(&db, &request.pool, hours).await?;
    Ok(GetGpuStatisticsResponse {
        models: models.into_iter().map(model).collect(),
        queues: queues.into_iter().map(queue).collect(),
        now: Some(rpc::timestamp::to_proto(Timestamp::now())),
    })
}

fn model(model: Model) -> ModelStatistics {
    ModelStatistics {
        pool: model.pool,
        model: model.model,
        devices: model.devices,
        usable_milli: model.usable_milli,
        held_milli: model.held_milli,
        nominated_milli: model.nominated_milli,
        broken_milli: model.broken_milli,
    }
}

fn queue(queue: Queue) -> QueueStatistics {
    QueueStatistics {
        pool: queue.pool,
        queue: queue.name,
        held_milli: queue.held_milli,
        deserved_milli: queue.deserved_milli,
        limit_milli: queue.limit_milli,
        running: queue.running,
        waiting: queue.waiting,
        waiting_milli: queue.waiting_milli,
        oldest_wait: (queue.waiting > 0).then(|| duration(queue.oldest_wait_s)),
        waits: durations(&queue.waits),
    }
}

fn durations(waits: &Waits) -> Option<Durations> {
    (waits.count > 0).then(|| Durations {
        count: waits.count,
        mean: Some(duration(waits.mean_s)),
        p50: Some(duration(waits.p50_s)),
        p95: Some(duration(waits.p95_s)),
        longest: Some(duration(waits.longest_s)),
    })
}

fn duration(seconds: f64) -> prost_types::Duration {
    sums::duration(seconds * 1000.0)
}
