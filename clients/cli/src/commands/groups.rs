//! `orrery groups`.

use crate::{
    arguments::people::Groups,
    commands::{policies, users::users_table},
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    render::{
        Output,
        table::{self, Tone},
    },
};
use proto::v1::{
    AddGroupMemberRequest, CreateGroupRequest, DeleteGroupRequest, ListGroupMembersRequest, ListGroupMembersResponse,
    ListGroupsRequest, ListGroupsResponse, RemoveGroupMemberRequest,
};
use rpc::client::within;

/// Lists groups, or changes one.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Groups>) -> Result<Code> {
    let mut groups = connection.groups();
    match act {
        None => {
            let request = ListGroupsRequest { page_size: PAGE_SIZE, ..ListGroupsRequest::default() };
            let found = pages!(connection.groups(), list_groups, request, groups);
            let all = ListGroupsResponse { groups: found, next_page_token: String::new() };
            output.answer("orrery.v1.ListGroupsResponse", &all, || {
                let mut table = table::new(output.style, &["group", "members"]);
                for group in &all.groups {
                    table.add_row([table::cell(&group.name, Tone::Plain), table::number(group.members)]);
                }
                table::text(&table, "no groups")
            })?;
        }
        Some(Groups::Create { name }) => {
            let request =
                within(CALL_TIMEOUT, CreateGroupRequest { name: name.clone(), ..CreateGroupRequest::default() });
            let answer = groups.create_group(request).await?.into_inner();
            output.answer("orrery.v1.CreateGroupResponse", &answer, || format!("group {name} is there"))?;
        }
        Some(Groups::Delete { name }) => {
            let request = within(CALL_TIMEOUT, DeleteGroupRequest { name: name.clone() });
            let answer = groups.delete_group(request).await?.into_inner();
            output.answer("orrery.v1.DeleteGroupResponse", &answer, || format!("group {name} is gone"))?;
        }
        Some(Groups::Policy { name, allow_root, quota }) => {
            policies::of_group(connection, output, name, allow_root, *quota).await?;
        }
        Some(Groups::Members { name }) => {
            let request = ListGroupMembersRequest { name, page_size: PAGE_SIZE, page_token: String::new() };
            let users = pages!(connection.groups(), list_group_members, request, users);
            let all = ListGroupMembersResponse { users, next_page_token: String::new() };
            output.answer("orrery.v1.ListGroupMembersResponse", &all, || users_table(&all.users, output))?;
        }
        Some(Groups::Add { name, email }) => {
            let request = AddGroupMemberRequest { name: name.clone(), email: email.clone() };
            let answer = groups.add_group_member(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.AddGroupMemberResponse", &answer, || format!("{email} is in {name}"))?;
        }
        Some(Groups::Remove { name, email }) => {
            let request = RemoveGroupMemberRequest { name: name.clone(), email: email.clone() };
            let answer = groups.remove_group_member(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.RemoveGroupMemberResponse", &answer, || format!("{email} is out of {name}"))?;
        }
    }
    Ok(Code::Ok)
}
