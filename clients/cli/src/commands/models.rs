//! `orrery models`: lists, and files on their way to and from the cluster.

mod transfer;

use crate::{
    arguments::models::Models,
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Failure, Result},
    render::{
        self, Output,
        table::{self, Tone},
        time,
    },
};
use jiff::Timestamp;
use proto::v1::{
    ArchiveModelRequest, ListModelVersionsRequest, ListModelVersionsResponse, ListModelsRequest, ListModelsResponse,
    Model, ModelVersion,
};
use rpc::client::within;
use std::path::Path;

/// The length of a version's id.
const ID_LENGTH: usize = 36;
/// The longest name of a model.
const NAME_CHARS_MAX: usize = 63;

/// Carries out one act; without one, lists.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Models>) -> Result<Code> {
    match act.unwrap_or(Models::List) {
        Models::List => list(connection, output).await?,
        Models::Show { name } => show(connection, output, name).await?,
        Models::Upload { file, name } => {
            let name = name.map_or_else(|| label(&file), Ok)?;
            let version = transfer::upload(connection, output, &file, &name).await?;
            output.answer("orrery.v1.ModelVersion", &version, || {
                format!("{name} has version {} ({})", version.id, render::bytes(version.size_bytes))
            })?;
        }
        Models::Download { model, output: file } => {
            let id = if model.len() == ID_LENGTH { model } else { latest(connection, model).await? };
            let (version, file) = transfer::download(connection, &id, file).await?;
            output.answer("orrery.v1.ModelVersion", &version, || {
                format!("{} ({}), SHA-256 as announced", file.display(), render::bytes(version.size_bytes))
            })?;
        }
        Models::Archive { name } => {
            let request = ArchiveModelRequest { workspace: connection.workspace.clone(), name: name.clone() };
            let answer = connection.models().archive_model(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.ArchiveModelResponse", &answer, || format!("model {name} is archived"))?;
        }
    }
    Ok(Code::Ok)
}

async fn list(connection: &Connection, output: &Output) -> Result<()> {
    let workspace = connection.workspace.clone();
    let request = ListModelsRequest { workspace, page_size: PAGE_SIZE, page_token: String::new() };
    let models = pages!(connection.models(), list_models, request, models);
    let all = ListModelsResponse { models, next_page_token: String::new() };
    output.answer("orrery.v1.ListModelsResponse", &all, || model_table(&all.models, output))
}

fn model_table(models: &[Model], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["model", "versions", "latest file", "size", "uploaded", "by"]);
    for model in models {
        let latest = model.latest.clone().unwrap_or_default();
        table.add_row([
            table::cell(&model.name, Tone::Plain),
            table::number(i64::from(model.versions)),
            table::cell(&latest.file_name, Tone::Plain),
            table::cell(render::bytes(latest.size_bytes), Tone::Plain),
            table::cell(time::relative(time::instant(latest.created_at.as_ref()), now), Tone::Plain),
            table::cell(&latest.created_by, Tone::Dim),
        ]);
    }
    table::text(&table, "no models; `orrery models upload FILE` brings one")
}

async fn show(connection: &Connection, output: &Output, name: String) -> Result<()> {
    let request = ListModelVersionsRequest {
        workspace: connection.workspace.clone(),
        name,
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    let versions = pages!(connection.models(), list_model_versions, request, versions);
    let all = ListModelVersionsResponse { versions, next_page_token: String::new() };
    output.answer("orrery.v1.ListModelVersionsResponse", &all, || version_table(&all.versions, output))
}

fn version_table(versions: &[ModelVersion], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["version", "file", "size", "sha256", "uploaded", "by"]);
    for version in versions {
        table.add_row([
            table::cell(&version.id, Tone::Plain),
            table::cell(&version.file_name, Tone::Plain),
            table::cell(render::bytes(version.size_bytes), Tone::Plain),
            table::cell(version.sha256.get(..12).unwrap_or_default(), Tone::Dim),
            table::cell(time::relative(time::instant(version.created_at.as_ref()), now), Tone::Plain),
            table::cell(&version.created_by, Tone::Dim),
        ]);
    }
    table::text(&table, "no versions")
}

/// The id of a model's newest version.
async fn latest(connection: &Connection, name: String) -> Result<String> {
    let workspace = connection.workspace.clone();
    let request = ListModelVersionsRequest { workspace, name, page_size: 1, page_token: String::new() };
    let answer = connection.models().list_model_versions(within(CALL_TIMEOUT, request)).await?.into_inner();
    Ok(answer.versions.into_iter().next().unwrap_or_default().id)
}

/// A model's name from that of a file: `Fraud Model_v2.onnx` is `fraud-model-v2`.
fn label(file: &Path) -> Result<String> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let text: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let label: String = text.trim_matches('-').chars().take(NAME_CHARS_MAX).collect();
    match label.trim_end_matches('-') {
        "" => Err(Failure::new(Code::Usage, "no name can be made from the file's", "give one by --name")),
        label => Ok(label.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_from_files() {
        assert_eq!(label(Path::new("a/Fraud Model_v2.onnx")).unwrap(), "fraud-model-v2");
        assert_eq!(label(Path::new("--x--.bin")).unwrap(), "x");
        assert!(label(Path::new("é.bin")).is_err() && label(Path::new("/")).is_err());
        assert_eq!(label(Path::new(&format!("{}.bin", "y".repeat(99)))).unwrap().len(), 63);
    }
}
