//! `orrery volumes`.

use crate::{
    arguments::volumes::Volumes,
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    render::{
        Output,
        table::{self, Tone},
        time,
    },
};
use jiff::Timestamp;
use proto::v1::{
    CreateVolumeRequest, DeleteVolumeRequest, GetWorkspaceRequest, GrowVolumeRequest, ListVolumesRequest,
    ListVolumesResponse, Volume, VolumeState,
};
use rpc::client::within;

/// Carries out one act; without one, lists. Without a project, those of the workspace's.
pub(crate) async fn run(
    connection: &Connection,
    output: &Output,
    act: Option<Volumes>,
    project: Option<String>,
) -> Result<Code> {
    let project = match project {
        Some(project) => project,
        None => of_workspace(connection).await?,
    };
    let mut volumes = connection.volumes();
    match act {
        None | Some(Volumes::List) => {
            let request = ListVolumesRequest { project, page_size: PAGE_SIZE, page_token: String::new() };
            let volumes = pages!(connection.volumes(), list_volumes, request, volumes);
            let all = ListVolumesResponse { volumes, next_page_token: String::new() };
            output.answer("orrery.v1.ListVolumesResponse", &all, || rows(&all.volumes, output))?;
        }
        Some(Volumes::Create { name, size, pool, class }) => {
            let request = CreateVolumeRequest {
                project,
                name: name.clone(),
                size_bytes: size,
                pool,
                storage_class: class.unwrap_or_default(),
                ..CreateVolumeRequest::default()
            };
            let answer = volumes.create_volume(within(CALL_TIMEOUT, request)).await?.into_inner();
            let done =
                || format!("volume {name} has {}; mount it by `workspaces set --mount {name}:/path`", amount(size));
            output.answer("orrery.v1.CreateVolumeResponse", &answer, done)?;
        }
        Some(Volumes::Grow { name, size }) => {
            let request = GrowVolumeRequest { project, name: name.clone(), size_bytes: size };
            let answer = volumes.grow_volume(within(CALL_TIMEOUT, request)).await?.into_inner();
            let done = || format!("volume {name} is to have {}", amount(size));
            output.answer("orrery.v1.GrowVolumeResponse", &answer, done)?;
        }
        Some(Volumes::Delete { name }) => {
            let request = DeleteVolumeRequest { project, name: name.clone() };
            let answer = volumes.delete_volume(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.DeleteVolumeResponse", &answer, || format!("volume {name} is being deleted"))?;
        }
    }
    Ok(Code::Ok)
}

async fn of_workspace(connection: &Connection) -> Result<String> {
    let request = GetWorkspaceRequest { name: connection.workspace.clone() };
    let answer = connection.workspaces().get_workspace(within(CALL_TIMEOUT, request)).await?.into_inner();
    Ok(answer.workspace.unwrap_or_default().project)
}

fn rows(volumes: &[Volume], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table =
        table::new(output.style, &["volume", "size", "has", "state", "pool", "class", "mounted by", "made"]);
    for volume in volumes {
        let state = match volume.state() {
            VolumeState::Unspecified => "?",
            VolumeState::Waiting => "waiting",
            VolumeState::Ready => "ready",
            VolumeState::Failed => "failed",
            VolumeState::Deleting => "deleting",
        };
        let said = format!("{state} {}", volume.message);
        let uses = volume.uses.iter().map(|one| {
            let since = time::relative(time::instant(one.since.as_ref()), now);
            format!("{} ({}{since})", one.workspace, if one.read_only { "reads, " } else { "" })
        });
        let has = if volume.capacity_bytes > 0 { amount(volume.capacity_bytes) } else { String::new() };
        table.add_row([
            table::cell(&volume.name, Tone::Plain),
            table::number(amount(volume.size_bytes)),
            table::number(has),
            table::cell(said.trim_end(), Tone::Plain),
            table::cell(&volume.pool, Tone::Dim),
            table::cell(&volume.storage_class, Tone::Dim),
            table::cell(uses.collect::<Vec<_>>().join(", "), Tone::Plain),
            table::cell(time::relative(time::instant(volume.created_at.as_ref()), now), Tone::Dim),
        ]);
    }
    table::text(&table, "no volumes; `orrery volumes create NAME --size 20GiB` makes one")
}

fn amount(bytes: i64) -> String {
    format!("{} MiB", bytes >> 20)
}
