//! Test messages: noted like any other, for every channel that is configured.

use crate::notes;
use domain::id::{PipelineId, WorkspaceId};
use notify::{Config, Event, Facts};
use store::{
    Error, Store, notifications,
    outbox::{self, Note, Source},
    runs::PipelineRef,
};
use uuid::Uuid;

/// Notes a test message for each channel of a pipeline, or of the workspace itself; answers how many.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn note(store: &Store, workspace: WorkspaceId, pipeline: Option<PipelineId>) -> Result<i32, Error> {
    let current = match pipeline {
        Some(id) => store::runs::current_pipeline(store, &PipelineRef::Id(id)).await?,
        None => None,
    };
    // Of a pipeline that is not this workspace's, nothing is told.
    let current = current.filter(|pipeline| pipeline.workspace_id == workspace);
    if pipeline.is_some() && current.is_none() {
        return Ok(0);
    }
    let client = store.client().await?;
    let mut configs: Vec<(Source, Config)> = Vec::new();
    let mut facts = Facts::default();
    let mut version = 0;
    if let Some(current) = &current {
        facts = Facts { workspace: current.workspace.clone(), pipeline_uuid: current.name.clone(), ..facts };
        version = current.version;
        let config = notifications::of_version(&client, current.id, current.version).await?;
        let config = config.and_then(|config| notes::parse(&config, &current.name));
        configs.extend(config.map(|config| (Source::Project, config)));
    }
    for configured in notifications::configured(&client, &[workspace.0]).await? {
        if configured.pipeline.is_none() || configured.pipeline == pipeline {
            let config = notes::outline(&configured);
            configs.extend(config.map(|config| (notes::source(&configured), config)));
        }
    }
    let facts = serde_json::to_value(&facts).unwrap_or_default();
    let test = Uuid::new_v4();
    let notes: Vec<Note> = configs
        .iter()
        .flat_map(|(source, config)| config.channels.keys().map(move |channel| (*source, channel)))
        .map(|(source, channel)| Note {
            key: format!("{test}/test/{}/{channel}", source.as_str()),
            workspace,
            pipeline: pipeline.unwrap_or(PipelineId(Uuid::nil())),
            pipeline_version: version,
            run: None,
            event: Event::Test.as_str(),
            source,
            channel: channel.clone(),
            facts: facts.clone(),
        })
        .collect();
    outbox::note(&client, &notes).await?;
    Ok(i32::try_from(notes.len()).unwrap_or(i32::MAX))
}
