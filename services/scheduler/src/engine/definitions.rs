//! Pipeline versions in memory. A version never changes, so what is here is never stale.

use super::{
    EngineError,
    turn::{Chain, unavailable},
};
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

/// Versions kept, about; beyond it the memory starts anew, which costs a read each.
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
            .map_err(|error| match error {
                // That one is what is wrong, and not the database.
                store::Error::Corrupt { .. } => EngineError::Definition(Chain(&error).to_string()),
                _ => unavailable(&error),
            })?
            .ok_or(EngineError::NoPipeline(pipeline))?;
        self.make_room_for(1);
        self.keep((pipeline, version), stored)
    }

    fn make_room_for(&mut self, count: usize) {
        if self.known.len() + count > VERSIONS_MAX {
            self.known.clear();
        }
    }

    /// Whether this version is at hand.
    pub(super) fn has(&self, pipeline: PipelineId, version: i64) -> bool {
        self.known.contains_key(&(pipeline, version))
    }

    /// Of these versions, those that are not known.
    pub(super) fn unknown(&self, versions: impl IntoIterator<Item = (PipelineId, i64)>) -> Vec<(PipelineId, i64)> {
        let unknown: BTreeSet<_> = versions.into_iter().filter(|version| !self.known.contains_key(version)).collect();
        unknown.into_iter().collect()
    }

    /// Keeps versions that were read together, all of them even where they are very many: whoever asked for them wants them
    /// now. What is wrong with one is told to whoever wants that one.
    pub(super) fn learn(&mut self, read: Vec<Versioned>) {
        self.make_room_for(read.len());
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
        self.known.insert((pipeline, version), prepared.clone());
        Ok(prepared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::RunId;
    use serde_json::json;

    #[tokio::test]
    async fn what_was_read_together_is_known_together() {
        let database = testkit::Database::new().await;
        let store = Store::connect(database.url(), 1).await.unwrap();
        let mut definitions = Definitions::new(store);
        let versions = |count: usize| -> Vec<(PipelineId, i64)> {
            (0..count).map(|_| (PipelineId(RunId::new_in(3).0), 1)).collect()
        };
        let read = |versions: &[(PipelineId, i64)]| -> Vec<Versioned> {
            let spec = json!({ "name": "p", "kind": "python", "blocks": [] });
            let definition =
                || Definition { pipeline: serde_json::from_value(spec.clone()).unwrap(), bundle_digest: String::new() };
            versions.iter().map(|version| (*version, Ok(definition()))).collect()
        };
        let (few, many) = (versions(10), versions(VERSIONS_MAX + 10));
        definitions.learn(read(&few));
        definitions.learn(read(&many));
        assert_eq!(definitions.unknown(many), []);
        assert_eq!(
            definitions.unknown(few.clone()),
            few.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        );
    }
}
