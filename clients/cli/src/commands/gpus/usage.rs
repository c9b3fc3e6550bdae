//! `orrery gpus usage`.

use crate::{
    commands::workspaces::gpus,
    connection::{CALL_TIMEOUT, Connection},
    failure::Result,
    render::{
        Output,
        table::{self, Tone},
    },
};
use proto::v1::{GetGpuStatisticsRequest, GetGpuStatisticsResponse, ModelStatistics, QueueStatistics};
use rpc::client::within;

/// Shows how GPUs and queues stand.
pub(super) async fn show(connection: &Connection, output: &Output, pool: String, hours: i32) -> Result<()> {
    let request = within(CALL_TIMEOUT, GetGpuStatisticsRequest { pool, hours });
    let answer = connection.monitor().get_gpu_statistics(request).await?.into_inner();
    output.answer("orrery.v1.GetGpuStatisticsResponse", &answer, || text(&answer, hours, output))
}

fn text(answer: &GetGpuStatisticsResponse, hours: i32, output: &Output) -> String {
    let models = models(&answer.models, output);
    let queues = queues(&answer.queues, output);
    format!("{models}\n\n{queues}\n\nwaits are those of the last {hours} h, of the latest start of each workspace")
}

fn models(models: &[ModelStatistics], output: &Output) -> String {
    let headings = ["pool", "model", "devices", "usable", "held", "kept", "broken", "held %"];
    let mut table = table::new(output.style, &headings);
    for model in models {
        let percent = 100 * model.held_milli / (1_000 * model.devices).max(1);
        table.add_row([
            table::cell(&model.pool, Tone::Dim),
            table::cell(&model.model, Tone::Plain),
            table::number(model.devices),
            table::number(gpus(model.usable_milli)),
            table::number(gpus(model.held_milli)),
            table::number(gpus(model.nominated_milli)),
            table::number(gpus(model.broken_milli)),
            table::number(percent),
        ]);
    }
    table::text(&table, "no devices; an executor with nodes brings some")
}

fn queues(queues: &[QueueStatistics], output: &Output) -> String {
    let headings =
        ["pool", "queue", "held", "deserved", "limit", "running", "waiting", "for GPU", "oldest", "p50", "p95"];
    let mut table = table::new(output.style, &headings);
    for queue in queues {
        let waits = queue.waits.as_ref();
        table.add_row([
            table::cell(&queue.pool, Tone::Dim),
            table::cell(&queue.queue, Tone::Plain),
            table::number(gpus(queue.held_milli)),
            table::number(gpus(queue.deserved_milli)),
            table::number(queue.limit_milli.map_or_else(|| "none".to_owned(), gpus)),
            table::number(queue.running),
            table::number(queue.waiting),
            table::number(gpus(queue.waiting_milli)),
            table::number(seconds(queue.oldest_wait.as_ref())),
            table::number(seconds(waits.and_then(|waits| waits.p50.as_ref()))),
            table::number(seconds(waits.and_then(|waits| waits.p95.as_ref()))),
        ]);
    }
    table::text(&table, "no queues")
}

fn seconds(duration: Option<&prost_types::Duration>) -> String {
    duration.map_or_else(String::new, |d| format!("{}.{} s", d.seconds, d.nanos / 100_000_000))
}
