//! Runs as their owner writes and loads them.

mod batch;
mod header;
mod load;

pub use batch::{Batch, Committed, Decision, NewRun, commit};
pub use header::{RunHeader, depth, header, last_in_place};
pub use load::{
    Definition, PipelineRef, StartablePipeline, StoredRun, Versioned, accepted, bundle, committed_output,
    current_pipeline, current_pipelines, definition, definitions, latest_status, one, repeated, unfinished,
};
