//! `orrery blocks`: the blocks of a run as a tree.

use crate::{
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    render::{Output, block, tree},
};
use jiff::Timestamp;
use proto::v1::{BlockRun, GetPipelineRequest, GetRunRequest, ListBlockRunsRequest, ListBlockRunsResponse};
use rpc::client;
use std::collections::HashMap;

/// Shows each block, below what it waits for.
pub(crate) async fn run(connection: &Connection, output: &Output, run_id: &str, children: bool) -> Result<Code> {
    let mut all = ListBlockRunsResponse::default();
    loop {
        let request = ListBlockRunsRequest {
            run_id: run_id.to_owned(),
            without_children: !children,
            page_size: PAGE_SIZE,
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = connection.runs().list_block_runs(client::within(CALL_TIMEOUT, request)).await?.into_inner();
        all.block_runs.extend(page.block_runs);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    let edges = if output.json { HashMap::new() } else { edges(connection, run_id).await? };
    output.answer("orrery.v1.ListBlockRunsResponse", &all, || drawn(&all.block_runs, &edges, output))?;
    Ok(Code::Ok)
}

/// The upstream blocks of each block, as the pipeline has them now.
async fn edges(connection: &Connection, run_id: &str) -> Result<HashMap<String, Vec<String>>> {
    let request = client::within(CALL_TIMEOUT, GetRunRequest { run_id: run_id.to_owned() });
    let run = connection.runs().get_run(request).await?.into_inner().run.unwrap_or_default();
    let request = GetPipelineRequest { workspace: run.workspace, pipeline: run.pipeline };
    // A pipeline that was archived meanwhile leaves its runs: then the blocks are shown without edges.
    let answer = connection.pipelines().get_pipeline(client::within(CALL_TIMEOUT, request)).await;
    let blocks = answer.ok().and_then(|a| a.into_inner().pipeline).map(|p| p.blocks).unwrap_or_default();
    Ok(blocks.into_iter().map(|b| (b.uuid, b.upstream_blocks)).collect())
}

fn drawn(runs: &[BlockRun], edges: &HashMap<String, Vec<String>>, output: &Output) -> String {
    let now = Timestamp::now();
    let mut children: HashMap<&str, Vec<&BlockRun>> = HashMap::new();
    for run in runs.iter().filter(|r| r.child >= 0) {
        children.entry(&run.block).or_default().push(run);
    }
    let blocks: HashMap<&str, &BlockRun> = runs.iter().filter(|r| r.child < 0).map(|r| (r.block.as_str(), r)).collect();
    let nodes: Vec<_> = runs.iter().filter(|r| r.child < 0).map(|r| (r.block.clone(), upstream(r, edges))).collect();
    let lines = tree::lines(&nodes);
    let width = lines.iter().map(|l| l.prefix.chars().count() + l.name.chars().count()).max().unwrap_or(0);
    let mut text = Vec::new();
    for line in &lines {
        let Some(run) = blocks.get(line.name.as_str()) else { continue };
        let after = if line.also_after.is_empty() {
            String::new()
        } else {
            output.style.dim(&format!("  (also after {})", line.also_after.join(", ")))
        };
        text.push(format!("{}{after}", row(&line.prefix, run, width, output, now)));
        let below = line.prefix.replace("├─ ", "│  ").replace("└─ ", "   ");
        for child in children.get(line.name.as_str()).map(Vec::as_slice).unwrap_or_default() {
            text.push(row(&format!("{below}   "), child, width, output, now));
        }
    }
    if text.is_empty() { "no blocks".to_owned() } else { text.join("\n") }
}

/// A callback `x:watched` hangs below the block that it watches.
fn upstream(run: &BlockRun, edges: &HashMap<String, Vec<String>>) -> Vec<String> {
    match (edges.get(&run.block), run.block.split_once(':')) {
        (Some(upstream), _) => upstream.clone(),
        (None, Some((_, watched))) => vec![watched.to_owned()],
        (None, None) => Vec::new(),
    }
}

fn row(prefix: &str, run: &BlockRun, width: usize, output: &Output, now: Timestamp) -> String {
    let (sign, _, tone) = block::block_status(run.status());
    let name = block::name(run);
    let pad = width.saturating_sub(prefix.chars().count() + name.chars().count());
    let sign = block::toned(output.style, tone, sign);
    format!("{}{sign} {name}{:pad$}  {}", output.style.dim(prefix), "", block::details(run, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::style::Style;
    use proto::v1::BlockRunStatus;

    #[test]
    fn children_and_callbacks_hang_where_they_belong() {
        let run = |name: &str, child| {
            let mut run = BlockRun { block: name.into(), child, ..BlockRun::default() };
            run.set_status(BlockRunStatus::Completed);
            run
        };
        let runs = [run("load", -1), run("load", 0), run("load", 1), run("save", -1), run("tell:save", -1)];
        let edges = HashMap::from([("load".into(), vec![]), ("save".into(), vec!["load".into()])]);
        let text = drawn(&runs, &edges, &Output { json: false, style: Style { colour: false } });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[0].starts_with("✔ load ") && lines[1].starts_with("   ✔ load[0]"), "{text}");
        assert!(lines[3].starts_with("└─ ✔ save") && lines[4].starts_with("   └─ ✔ tell:save"), "{text}");
    }
}
