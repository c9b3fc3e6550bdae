//! What new runs of pipelines started from, as it was asked last: one question less on the way to a run. It may be old by now.
//! So it is only for runs whose commit looks whether that is still in force, and does not create them otherwise; they are then
//! asked for again.
//!
//! Refuses to serve triggers and backfills: what they decide together with a run is not taken back so.

use domain::id::PipelineId;
use std::collections::HashMap;
use store::runs::StartablePipeline;

/// Pipelines kept, about; beyond it the memory starts anew, which costs a question each.
const PIPELINES_MAX: usize = 1_024;

/// Pipelines in which a run could start when that was asked last.
#[derive(Default)]
pub(super) struct Remembered {
    pipelines: HashMap<PipelineId, StartablePipeline>,
}

impl Remembered {
    /// What a new run starts from, unless that has changed.
    pub(super) fn get(&self, pipeline: PipelineId) -> Option<&StartablePipeline> {
        self.pipelines.get(&pipeline)
    }

    /// Keeps what was `found` of those that were `asked` for, and forgets those in which no run can start.
    pub(super) fn note(&mut self, asked: &[PipelineId], found: &[StartablePipeline]) {
        if self.pipelines.len() + found.len() > PIPELINES_MAX {
            self.pipelines.clear();
        }
        for pipeline in asked {
            self.forget(*pipeline);
        }
        let open = found.iter().filter(|pipeline| !pipeline.workspace_archived);
        self.pipelines.extend(open.map(|pipeline| (pipeline.id, pipeline.clone())));
    }

    /// It is something else by now.
    pub(super) fn forget(&mut self, pipeline: PipelineId) {
        self.pipelines.remove(&pipeline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::{RunId, TriggerId, WorkspaceId};

    fn pipeline(version: i64, workspace_archived: bool) -> StartablePipeline {
        let id = RunId::new_in(3).0;
        StartablePipeline {
            id: PipelineId(id),
            workspace_id: WorkspaceId(id),
            workspace: "w".to_owned(),
            workspace_archived,
            name: "p".to_owned(),
            version,
            trigger_id: TriggerId(id),
            trigger: "manual".to_owned(),
        }
    }

    #[test]
    fn only_what_can_run_is_remembered_and_only_as_it_was_found_last() {
        let mut remembered = Remembered::default();
        let (open, archived) = (pipeline(1, false), pipeline(1, true));
        let ids = [open.id, archived.id];
        remembered.note(&ids, &[open.clone(), archived]);
        assert_eq!(ids.map(|id| remembered.get(id).map(|found| found.version)), [Some(1), None]);
        remembered.note(&ids[..1], &[StartablePipeline { version: 2, ..open }]);
        assert_eq!(remembered.get(ids[0]).map(|found| found.version), Some(2));
        // It is not found any more.
        remembered.note(&ids[..1], &[]);
        assert!(remembered.get(ids[0]).is_none());
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let mut remembered = Remembered::default();
        for _ in 0..PIPELINES_MAX + 10 {
            let found = pipeline(1, false);
            remembered.note(&[found.id], std::slice::from_ref(&found));
            assert!(remembered.get(found.id).is_some());
        }
        assert!(remembered.pipelines.len() <= PIPELINES_MAX);
    }
}
