//! `orrery queues`.

use crate::{
    arguments::{amounts::Setting, gpus::Queues},
    commands::{gpus::affected, workspaces::gpus},
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    render::{
        Output,
        table::{self, Tone},
    },
};
use proto::v1::{ArchiveQueueRequest, ListQueuesRequest, ListQueuesResponse, Queue, SetQueueRequest};
use rpc::client::within;

/// Carries out one act; without one, lists.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Queues>) -> Result<Code> {
    match act {
        None => {
            let all = ListQueuesResponse { queues: list(connection).await?, next_page_token: String::new() };
            output.answer("orrery.v1.ListQueuesResponse", &all, || rows(&all.queues, output))?;
        }
        Some(Queues::Set { name, priority, preemptible, deserved, limit, weight, pool, force }) => {
            let known = list(connection).await?.into_iter().find(|queue| queue.name == name);
            let mut queue = known.unwrap_or_else(|| Queue { name: name.clone(), ..Queue::default() });
            queue.priority = priority.unwrap_or(queue.priority);
            queue.preemptible = preemptible.unwrap_or(queue.preemptible);
            queue.deserved_gpu_milli = deserved.unwrap_or(queue.deserved_gpu_milli);
            queue.limit_gpu_milli = Setting::over(limit, queue.limit_gpu_milli);
            queue.weight = weight.unwrap_or(queue.weight);
            queue.pool = pool.unwrap_or(queue.pool);
            let request = within(CALL_TIMEOUT, SetQueueRequest { queue: Some(queue), force });
            let answer = connection.queues().set_queue(request).await?.into_inner();
            output.answer("orrery.v1.SetQueueResponse", &answer, || {
                format!("queue {name} is set{}", affected(&answer.affected, output))
            })?;
        }
        Some(Queues::Archive { name }) => {
            let request = within(CALL_TIMEOUT, ArchiveQueueRequest { name: name.clone() });
            let answer = connection.queues().archive_queue(request).await?.into_inner();
            output.answer("orrery.v1.ArchiveQueueResponse", &answer, || {
                let left = match answer.workspaces.as_slice() {
                    [] => String::new(),
                    names => format!("; these have to choose another queue: {}", names.join(", ")),
                };
                format!("queue {name} is out of use{left}")
            })?;
        }
    }
    Ok(Code::Ok)
}

async fn list(connection: &Connection) -> Result<Vec<Queue>> {
    let request = ListQueuesRequest { page_size: PAGE_SIZE, ..ListQueuesRequest::default() };
    Ok(pages!(connection.queues(), list_queues, request, queues))
}

fn rows(queues: &[Queue], output: &Output) -> String {
    let headings =
        ["queue", "pool", "priority", "preemptible", "deserved", "limit", "weight", "held", "running", "waiting"];
    let mut table = table::new(output.style, &headings);
    for queue in queues {
        let limit = queue.limit_gpu_milli.map_or_else(|| "none".to_owned(), gpus);
        let preemptible = if queue.preemptible { ("yes", Tone::Warn) } else { ("no", Tone::Dim) };
        table.add_row([
            table::cell(&queue.name, Tone::Plain),
            table::cell(&queue.pool, Tone::Dim),
            table::number(queue.priority),
            table::cell(preemptible.0, preemptible.1),
            table::number(gpus(queue.deserved_gpu_milli)),
            table::number(limit),
            table::number(queue.weight),
            table::number(gpus(queue.held_gpu_milli)),
            table::number(queue.running),
            table::number(queue.waiting),
        ]);
    }
    table::text(&table, "no queues")
}
