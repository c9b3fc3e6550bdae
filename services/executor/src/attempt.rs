//! One try of one block, as both sides name it, and what is needed to run it.

use domain::pipeline::{Block, Pipeline};
use proto::internal::v1::{self as pb, result::Outcome};
use std::{collections::HashMap, sync::Arc};

pub use rpc::attempt::AttemptId;

/// A pipeline version as this session was taught it.
#[derive(Debug)]
pub struct Definition {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Its code.
    pub bundle_digest: String,
    blocks: HashMap<String, usize>,
}

impl Definition {
    /// Reads the wire form.
    ///
    /// # Errors
    /// When the pipeline is malformed.
    pub fn from_proto(definition: &pb::Definition) -> Result<Self, serde_json::Error> {
        let pipeline: Pipeline = serde_json::from_str(&definition.pipeline)?;
        let blocks = pipeline.blocks.iter().enumerate().map(|(at, block)| (block.uuid.clone(), at)).collect();
        Ok(Self { pipeline, bundle_digest: definition.bundle_digest.clone(), blocks })
    }
}

/// An assignment with its definition.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its name.
    pub id: AttemptId,
    /// The pipeline version.
    pub definition: Arc<Definition>,
    /// As assigned.
    pub assignment: Arc<pb::Assignment>,
}

impl Attempt {
    /// The workspace's name.
    #[must_use]
    pub fn workspace(&self) -> &str {
        self.assignment.run.as_ref().map_or("", |run| &run.workspace)
    }

    /// The block, or the callback, that it runs; none when the assignment does not fit its definition.
    #[must_use]
    pub fn block(&self) -> Option<&Block> {
        let pipeline = &self.definition.pipeline;
        if self.assignment.callback.is_none() {
            return self.definition.blocks.get(&self.id.block).map(|at| &pipeline.blocks[*at]);
        }
        let name = self.id.block.split_once(':').map_or(self.id.block.as_str(), |(callback, _)| callback);
        pipeline.callbacks.iter().find(|block| block.uuid == name)
    }

    /// True when it reads what only the memory of its run's process holds.
    #[must_use]
    pub fn reads_memory(&self) -> bool {
        let has_inputs = self.assignment.inputs.iter().any(|input| !input.outputs.is_empty());
        has_inputs && self.definition.pipeline.keeps_outputs_in_memory()
    }

    /// What the end of its process means: with it, outputs of the run may be gone.
    #[must_use]
    pub fn without_process(&self, mut outcome: Outcome) -> Outcome {
        if let Outcome::Failed(failed) = &mut outcome {
            failed.process_lost = self.definition.pipeline.keeps_outputs_in_memory();
        }
        outcome
    }

    /// The same of a process that waits here no more, and whether this executor let it go.
    #[must_use]
    pub fn without_waiting_process(&self, let_go: bool) -> Outcome {
        let gone = "the process that held the outputs of this run in memory has ended";
        let mut outcome = self.without_process(failed("CRASHED", gone));
        if let Outcome::Failed(failed) = &mut outcome {
            failed.process_let_go = let_go;
        }
        outcome
    }
}

/// A failure that the executor itself found.
#[must_use]
pub fn failed(code: &str, message: impl Into<String>) -> Outcome {
    let (code, message) = (code.to_owned(), message.into());
    Outcome::Failed(pb::Failed { code, message, ..pb::Failed::default() })
}
