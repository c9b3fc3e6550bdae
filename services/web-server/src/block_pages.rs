//! The block runs of a run as pages: blocks in pipeline order, each followed by its children. Refuses to decide what a
//! status is; `block_runs` does.

use crate::block_runs::View;
use crate::core::Core;
use crate::fault::Fault;
use crate::paging::Page;
use domain::{executor_type::Backend, pipeline::Pipeline};
use proto::v1::{self, ListBlockRunsRequest, ListBlockRunsResponse};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use store::run_views::{self, Run};
use store::{pipelines, run_views::BlockRun, run_views::ChildCounts};

/// A run with everything that its view needs.
pub(crate) struct Loaded {
    /// The run.
    pub(crate) run: Run,
    pipeline: Pipeline,
    rows: HashMap<String, BlockRun>,
    counts: HashMap<String, ChildCounts>,
    backends: Option<Vec<Backend>>,
}

impl Loaded {
    /// As it can be shown.
    pub(crate) fn view(&self) -> View<'_> {
        View {
            run: &self.run,
            pipeline: &self.pipeline,
            rows: &self.rows,
            counts: &self.counts,
            backends: self.backends.as_deref(),
        }
    }

    /// The definition, for the next read of the same run: a run never changes its version.
    pub(crate) fn into_pipeline(self) -> Pipeline {
        self.pipeline
    }
}

/// Reads a run and its blocks; `pipeline` is what an earlier read of the same run found.
pub(crate) async fn load(core: &Core, id: domain::id::RunId, pipeline: Option<Pipeline>) -> Result<Loaded, Fault> {
    let db = core.store.client().await?;
    let run = run_views::get(&db, id).await?.ok_or_else(|| Fault::no_run(id))?;
    let pipeline = match pipeline {
        Some(pipeline) => pipeline,
        None => {
            pipelines::version(&db, run.pipeline_id, run.pipeline_version).await?.ok_or_else(|| Fault::no_run(id))?
        }
    };
    let rows = run_views::blocks(&db, id).await?;
    let counts = if rows.values().any(|row| row.children.is_some_and(|n| n > 0)) {
        run_views::count_children(&db, id).await?
    } else {
        HashMap::new()
    };
    let mut loaded = Loaded { run, pipeline, rows, counts, backends: None };
    if loaded.view().has_queued() {
        let names = store::executor_views::backends(&db).await?;
        loaded.backends = Some(names.iter().map(|name| Backend::named(name)).collect());
    }
    Ok(loaded)
}

/// Where a page begins: after this entry of the list of blocks, and after this child of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    entry: usize,
    child: i32,
}

/// One page.
pub(crate) async fn page(core: &Core, request: &ListBlockRunsRequest) -> Result<ListBlockRunsResponse, Fault> {
    let page = Page::of(request.page_size)?;
    let scope = format!("block_runs/{}/{}", request.run_id, request.without_children);
    let after: Option<Cursor> = rpc::paging::decode(&scope, &request.page_token)?;
    let loaded = load(core, rpc::ids::parse(&request.run_id, "run_id")?, None).await?;
    let mut found: Vec<(Cursor, v1::BlockRun)> = Vec::new();
    let first = after.map_or(0, |cursor| cursor.entry);
    for (entry, block) in loaded.view().blocks().into_iter().enumerate().skip(first) {
        let seen = after.filter(|cursor| cursor.entry == entry).map(|cursor| cursor.child);
        let (name, total) = (block.block.clone(), block.children_total);
        if seen.is_none() {
            found.push((Cursor { entry, child: -1 }, block));
        }
        if !request.without_children && total > 0 {
            let room = (page.size() + 1).saturating_sub(found.len());
            let children = children(core, &loaded, &name, seen.map_or(0, |child| child + 1), total, room).await?;
            found.extend(children.into_iter().map(|c| (Cursor { entry, child: c.child }, c)));
        }
        if found.len() > page.size() {
            break;
        }
    }
    let next_page_token = page.cut(&scope, &mut found, |(cursor, _)| *cursor)?;
    Ok(ListBlockRunsResponse { block_runs: found.into_iter().map(|(_, b)| b).collect(), next_page_token })
}

async fn children(
    core: &Core,
    loaded: &Loaded,
    name: &str,
    first: i32,
    total: i32,
    room: usize,
) -> Result<Vec<v1::BlockRun>, Fault> {
    let room = i32::try_from(room).unwrap_or(i32::MAX);
    let last = first.saturating_add(room).min(total) - 1;
    let Some(block) = loaded.pipeline.blocks.iter().find(|b| b.uuid == name).filter(|_| first <= last) else {
        return Ok(Vec::new());
    };
    let db = core.store.client().await?;
    let rows = run_views::children(&db, loaded.run.id, name, first, last).await?;
    Ok(rows.iter().map(|row| loaded.view().child(block, row)).collect())
}
