//! `orrery gpus consolidate`.

use crate::{
    commands::workspaces::gpus,
    connection::{CALL_TIMEOUT, Connection},
    failure::Result,
    render::{
        Output,
        table::{self, Tone},
    },
};
use proto::v1::{PlanConsolidationRequest, PlanConsolidationResponse};
use rpc::client::within;

/// Shows who could move.
pub(super) async fn show(connection: &Connection, output: &Output, pool: String) -> Result<()> {
    let request = within(CALL_TIMEOUT, PlanConsolidationRequest { pool });
    let answer = connection.devices().plan_consolidation(request).await?.into_inner();
    output.answer("orrery.v1.PlanConsolidationResponse", &answer, || text(&answer, output))
}

fn text(answer: &PlanConsolidationResponse, output: &Output) -> String {
    if answer.moves.is_empty() {
        return "nothing would be freed by moving anybody".to_owned();
    }
    let headings = ["workspace", "project", "queue", "GPU", "from", "to"];
    let mut table = table::new(output.style, &headings);
    for step in &answer.moves {
        let queue = if step.preemptible { format!("{} (preemptible)", step.queue) } else { step.queue.clone() };
        table.add_row([
            table::cell(&step.workspace, Tone::Plain),
            table::cell(&step.project, Tone::Dim),
            table::cell(queue, Tone::Dim),
            table::number(gpus(i64::from(step.milli))),
            table::cell(format!("{}/{}", step.node, step.device), Tone::Plain),
            table::cell(format!("{}/{}", step.to_node, step.to_device), Tone::Plain),
        ]);
    }
    let table = table::text(&table, "");
    let freed = answer.devices_freed;
    format!(
        "{table}\n\n{freed} whole devices would be free; when its people agree, `orrery workspaces stop` and `start` place each anew"
    )
}
