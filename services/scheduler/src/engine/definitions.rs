//! Pipeline versions in memory. A version never changes, so what is here is never stale.

use super::EngineError;
use domain::{graph::Graph, id::PipelineId};
use proto::internal::v1 as pb;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use store::{
    Store,
    runs::{Definition, Versioned},
};

/// Versions kept; beyond it the memory starts anew, which costs a read each.
const VERSIONS_MAX: usize = 1_024;

/// A version, ready to run.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) graph: Arc<Graph>,
    pub(super) wire: Arc<pb::Definition>,
}

/// Reads versions once.
pub(super) struct Definitions {
    store: Store,
    known: HashMap<(PipelineId, i64), Prepared>,
}

impl Definitions {
    pub(super) fn new(store: Store) -> Self {
        Self { store, known: HashMap::new() }
    }

    pub(super) async fn get(&mut self, pipeline: PipelineId, version: i64) -> Result<Prepared, EngineError> {
        if let Some(known) = self.known.get(&(pipeline, version)) {
            return Ok(known.clone());
        }
        let stored = store::runs::definition(&self.store, pipeline, version)
            .await
            .map_err(|error| super::turn::unavailable(&error))?
            .ok_or(EngineError::NoPipeline(pipeline))?;
        self.keep((pipeline, version), stored)
    }

    /// Of these versions, those that are not known.
    pub(super) fn unknown(&self, versions: impl IntoIterator<Item = (PipelineId, i64)>) -> Vec<(PipelineId, i64)> {
        let unknown: BTreeSet<_> = versions.into_iter().filter(|version| !self.known.contains_key(version)).collect();
        unknown.into_iter().collect()
    }

    /// Keeps versions that were read together. What is wrong with one is told to whoever wants that one.
    pub(super) fn learn(&mut self, read: Vec<Versioned>) {
        for (version, definition) in read {
            let kept = definition.ok().map(|definition| self.keep(version, definition));
            if kept.is_none_or(|kept| kept.is_err()) {
                tracing::debug!(pipeline.id = %version.0, version = version.1, "a definition cannot be read");
            }
        }
    }

    fn keep(&mut self, (pipeline, version): (PipelineId, i64), stored: Definition) -> Result<Prepared, EngineError> {
        let json = serde_json::to_string(&stored.pipeline)
            .map_err(|e| EngineError::Definition(format!("pipeline {pipeline} version {version}: {e}")))?;
        let graph = Graph::new(Arc::new(stored.pipeline))
            .map_err(|e| EngineError::Definition(format!("pipeline {pipeline} version {version}: {e}")))?;
        let prepared = Prepared {
            graph: Arc::new(graph),
            wire: Arc::new(pb::Definition {
                id: format!("{pipeline}@{version}"),
                pipeline: json,
                bundle_digest: stored.bundle_digest,
            }),
        };
        if self.known.len() >= VERSIONS_MAX {
            self.known.clear();
        }
        self.known.insert((pipeline, version), prepared.clone());
        Ok(prepared)
    }
}
