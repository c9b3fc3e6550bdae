//! Pipelines in a line or two.

use domain::{
    graph::{Graph, GraphError},
    id::ExecutorId,
    pipeline::{Block, BlockKind, Concurrency, Language, Pipeline, PipelineKind},
    retry::RetryPolicy,
    run::Options,
};
use jiff::Timestamp;
use serde_json::Map;
use std::sync::Arc;
use uuid::Uuid;

pub(crate) fn block(uuid: &str, upstream: &[&str]) -> Block {
    Block {
        uuid: uuid.to_owned(),
        name: uuid.to_owned(),
        kind: BlockKind::Transformer,
        language: Language::Python,
        file: None,
        upstream: upstream.iter().map(|&up| up.to_owned()).collect(),
        configuration: Map::new(),
        executor_type: None,
        executor_config: Map::new(),
        retry: RetryPolicy::default(),
        timeout_s: None,
        limits: Vec::new(),
        replica_of: None,
        dynamic: false,
        reduce_output: false,
    }
}

pub(crate) fn dynamic(uuid: &str, upstream: &[&str]) -> Block {
    Block { dynamic: true, ..block(uuid, upstream) }
}

pub(crate) fn reducing(uuid: &str, upstream: &[&str]) -> Block {
    Block { reduce_output: true, ..block(uuid, upstream) }
}

pub(crate) fn retried(block: Block, retries: u32) -> Block {
    Block { retry: RetryPolicy { retries, ..RetryPolicy::default() }, ..block }
}

pub(crate) fn pipeline(blocks: Vec<Block>) -> Pipeline {
    Pipeline {
        name: "p".to_owned(),
        description: String::new(),
        kind: PipelineKind::Python,
        tags: Vec::new(),
        blocks,
        conditionals: Vec::new(),
        callbacks: Vec::new(),
        variables: Map::new(),
        one_process: false,
        cache_output_in_memory: false,
        executor_type: None,
        executor_config: Map::new(),
        concurrency: Concurrency::default(),
        notification_config: Map::new(),
        run_timeout_s: None,
        outputs_retention_s: None,
        runs_retention_s: None,
        logs_retention_s: None,
        log_level: None,
        secrets: None,
        place_secrets: Vec::new(),
    }
}

pub(crate) fn with_callbacks(blocks: Vec<Block>, watched: &[&str]) -> Pipeline {
    let callback = Block { kind: BlockKind::Callback, ..block("cb", watched) };
    Pipeline { callbacks: vec![callback], ..pipeline(blocks) }
}

pub(crate) fn in_one_process(blocks: Vec<Block>, cached: bool) -> Pipeline {
    Pipeline { one_process: true, cache_output_in_memory: cached, ..pipeline(blocks) }
}

pub(crate) fn limited(blocks: Vec<Block>, limit: u32) -> Pipeline {
    let concurrency = Concurrency { block_run_limit: Some(limit), ..Concurrency::default() };
    Pipeline { concurrency, ..pipeline(blocks) }
}

pub(crate) fn graph(pipeline: Pipeline) -> Result<Graph, GraphError> {
    Graph::new(Arc::new(pipeline))
}

pub(crate) fn strict() -> Options {
    Options::default()
}

pub(crate) fn lenient() -> Options {
    Options { allow_blocks_to_fail: true, ..Options::default() }
}

pub(crate) fn executor(n: u128) -> ExecutorId {
    ExecutorId(Uuid::from_u128(n))
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("a small number")
}
