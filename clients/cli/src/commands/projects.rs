//! `orrery projects`.

use crate::{
    arguments::people::{Projects, Who},
    commands::{
        policies,
        users::{role_word, to_proto},
    },
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    render::{
        Output,
        table::{self, Tone},
    },
};
use proto::v1::{
    ArchiveProjectRequest, CreateProjectRequest, ListProjectMembersRequest, ListProjectMembersResponse,
    ListProjectsRequest, ListProjectsResponse, ProjectMember, RemoveProjectMemberRequest, SetProjectMemberRequest,
};
use rpc::client::within;

/// Lists projects, or changes one.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Projects>) -> Result<Code> {
    let mut projects = connection.projects();
    match act {
        None => list(connection, output).await?,
        Some(Projects::Create { name, group }) => {
            let request =
                CreateProjectRequest { name: name.clone(), owner_group: group, ..CreateProjectRequest::default() };
            let answer = projects.create_project(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.CreateProjectResponse", &answer, || format!("project {name} is there"))?;
        }
        Some(Projects::Archive { name }) => {
            let request = within(CALL_TIMEOUT, ArchiveProjectRequest { project: name.clone() });
            let answer = projects.archive_project(request).await?.into_inner();
            output.answer("orrery.v1.ArchiveProjectResponse", &answer, || format!("project {name} is archived"))?;
        }
        Some(Projects::Policy { name, policy }) => policies::of_project(connection, output, name, *policy).await?,
        Some(Projects::Members { name }) => members(connection, output, name).await?,
        Some(Projects::Grant { name, who: Who { email, group }, role }) => {
            let (email, group) = (email.unwrap_or_default(), group.unwrap_or_default());
            let member = Some(ProjectMember { email, group, role: to_proto(role).into() });
            let request = SetProjectMemberRequest { project: name, member };
            let answer = projects.set_project_member(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.SetProjectMemberResponse", &answer, || "granted".to_owned())?;
        }
        Some(Projects::Revoke { name, who: Who { email, group } }) => {
            let (email, group) = (email.unwrap_or_default(), group.unwrap_or_default());
            let request = RemoveProjectMemberRequest { project: name, email, group };
            let answer = projects.remove_project_member(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.RemoveProjectMemberResponse", &answer, || "removed".to_owned())?;
        }
    }
    Ok(Code::Ok)
}

async fn list(connection: &Connection, output: &Output) -> Result<()> {
    let request = ListProjectsRequest { page_size: PAGE_SIZE, ..ListProjectsRequest::default() };
    let projects = pages!(connection.projects(), list_projects, request, projects);
    let all = ListProjectsResponse { projects, next_page_token: String::new() };
    output.answer("orrery.v1.ListProjectsResponse", &all, || {
        let mut table = table::new(output.style, &["project", "owner"]);
        for project in &all.projects {
            let owner = if project.owner_group.is_empty() { &project.owner_email } else { &project.owner_group };
            table.add_row([table::cell(&project.name, Tone::Plain), table::cell(owner, Tone::Dim)]);
        }
        table::text(&table, "no projects")
    })
}

async fn members(connection: &Connection, output: &Output, project: String) -> Result<()> {
    let request = ListProjectMembersRequest { project, page_size: PAGE_SIZE, page_token: String::new() };
    let members = pages!(connection.projects(), list_project_members, request, members);
    let all = ListProjectMembersResponse { members, next_page_token: String::new() };
    output.answer("orrery.v1.ListProjectMembersResponse", &all, || {
        let mut table = table::new(output.style, &["member", "kind", "role"]);
        for member in &all.members {
            let (name, kind) =
                if member.group.is_empty() { (&member.email, "person") } else { (&member.group, "group") };
            table.add_row([
                table::cell(name, Tone::Plain),
                table::cell(kind, Tone::Dim),
                table::cell(role_word(member.role()), Tone::Plain),
            ]);
        }
        table::text(&table, "no members besides its owner")
    })
}
