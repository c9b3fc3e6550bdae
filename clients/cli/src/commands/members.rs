//! `orrery members`: who works in the workspace.

use crate::{
    arguments::people::{Members, WorkspaceRole},
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
    self, InviteMemberRequest, ListMembersRequest, ListMembersResponse, Member, RemoveMemberRequest,
    SetMemberRoleRequest,
};
use rpc::client::within;

/// Lists members, or changes one.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Members>) -> Result<Code> {
    let (mut members, workspace) = (connection.members(), connection.workspace.clone());
    match act {
        None => {
            let request = ListMembersRequest { workspace, page_size: PAGE_SIZE, page_token: String::new() };
            let found = pages!(connection.members(), list_members, request, members);
            let all = ListMembersResponse { members: found, next_page_token: String::new() };
            output.answer("orrery.v1.ListMembersResponse", &all, || table_of(&all.members, output))?;
        }
        Some(Members::Invite { email, role }) => {
            let request = InviteMemberRequest { workspace, email, role: to_proto(role).into() };
            let answer = members.invite_member(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.InviteMemberResponse", &answer, || {
                let member = answer.member.clone().unwrap_or_default();
                match member.invited {
                    true => format!("{} becomes a member when there is such a user", member.email),
                    false => format!("{} is a member", member.email),
                }
            })?;
        }
        Some(Members::Set { email, role }) => {
            let request = SetMemberRoleRequest { workspace, email: email.clone(), role: to_proto(role).into() };
            let answer = members.set_member_role(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.SetMemberRoleResponse", &answer, || format!("{email} has a new role"))?;
        }
        Some(Members::Remove { email }) => {
            let request = RemoveMemberRequest { workspace, email: email.clone() };
            let answer = members.remove_member(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.RemoveMemberResponse", &answer, || format!("{email} is no member any more"))?;
        }
    }
    Ok(Code::Ok)
}

const fn to_proto(role: WorkspaceRole) -> v1::WorkspaceRole {
    match role {
        WorkspaceRole::Collaborator => v1::WorkspaceRole::Collaborator,
        WorkspaceRole::Owner => v1::WorkspaceRole::Owner,
    }
}

fn table_of(members: &[Member], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["member", "name", "role", "since", "state"]);
    for member in members {
        let role = if member.role() == v1::WorkspaceRole::Owner { "owner" } else { "collaborator" };
        let state = if member.invited { "invited" } else { "" };
        table.add_row([
            table::cell(&member.email, Tone::Plain),
            table::cell(&member.name, Tone::Plain),
            table::cell(role, Tone::Plain),
            table::cell(time::relative(time::instant(member.since.as_ref()), now), Tone::Dim),
            table::cell(state, Tone::Warn),
        ]);
    }
    table::text(&table, "no members; its project's members may work in it")
}
