//! `orrery users`.

use crate::{
    arguments::people::{Role, Users},
    commands::policies,
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
    self, CreateUserRequest, DisableUserRequest, EnableUserRequest, ListUsersRequest, ListUsersResponse,
    ResetPasswordRequest, SetUserRoleRequest, UnlinkUserRequest, User,
};
use rpc::client::within;

/// Lists people, or changes one.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Users>) -> Result<Code> {
    let mut users = connection.users();
    match act {
        None => list(connection, output).await?,
        Some(Users::Add { email, name, role }) => {
            let request =
                CreateUserRequest { email, name, role: to_proto(role).into(), ..CreateUserRequest::default() };
            let made = users.create_user(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.CreateUserResponse", &made, || {
                let email = made.user.as_ref().map_or("", |user| user.email.as_str());
                told(email, &made.one_time_password)
            })?;
        }
        Some(Users::Role { email, role }) => {
            let request = SetUserRoleRequest { email: email.clone(), role: to_proto(role).into() };
            let answer = users.set_user_role(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.SetUserRoleResponse", &answer, || format!("{email} has a new role"))?;
        }
        Some(Users::Disable { email }) => {
            let request = within(CALL_TIMEOUT, DisableUserRequest { email: email.clone() });
            let answer = users.disable_user(request).await?.into_inner();
            output.answer("orrery.v1.DisableUserResponse", &answer, || format!("{email} is disabled"))?;
        }
        Some(Users::Enable { email }) => {
            let request = within(CALL_TIMEOUT, EnableUserRequest { email: email.clone() });
            let answer = users.enable_user(request).await?.into_inner();
            output.answer("orrery.v1.EnableUserResponse", &answer, || format!("{email} may sign in again"))?;
        }
        Some(Users::ResetPassword { email }) => {
            let request = within(CALL_TIMEOUT, ResetPasswordRequest { email: email.clone() });
            let answer = users.reset_password(request).await?.into_inner();
            output.answer("orrery.v1.ResetPasswordResponse", &answer, || told(&email, &answer.one_time_password))?;
        }
        Some(Users::Quota { email, quota, remove }) => {
            policies::of_person(connection, output, email.unwrap_or_default(), *quota, remove).await?;
        }
        Some(Users::Unlink { email }) => {
            let request = within(CALL_TIMEOUT, UnlinkUserRequest { email: email.clone() });
            let answer = users.unlink_user(request).await?.into_inner();
            output.answer("orrery.v1.UnlinkUserResponse", &answer, || {
                format!("{email} is tied anew by the next sign-in at the provider with this address")
            })?;
        }
    }
    Ok(Code::Ok)
}

fn told(email: &str, password: &str) -> String {
    format!("{email} signs in once with the password {password} and chooses an own one: orrery login --email {email}")
}

/// The contract's value of a role.
pub(super) const fn to_proto(role: Role) -> v1::Role {
    match role {
        Role::None => v1::Role::Unspecified,
        Role::Viewer => v1::Role::Viewer,
        Role::Editor => v1::Role::Editor,
        Role::Admin => v1::Role::Admin,
        Role::Owner => v1::Role::Owner,
    }
}

/// A role in a word.
pub(super) const fn role_word(role: v1::Role) -> &'static str {
    match role {
        v1::Role::Unspecified => "-",
        v1::Role::Viewer => "viewer",
        v1::Role::Editor => "editor",
        v1::Role::Admin => "admin",
        v1::Role::Owner => "owner",
    }
}

async fn list(connection: &Connection, output: &Output) -> Result<()> {
    let request = ListUsersRequest { page_size: PAGE_SIZE, ..ListUsersRequest::default() };
    let users = pages!(connection.users(), list_users, request, users);
    let all = ListUsersResponse { users, next_page_token: String::new() };
    output.answer("orrery.v1.ListUsersResponse", &all, || users_table(&all.users, output))
}

/// People as a table.
pub(super) fn users_table(users: &[User], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["user", "name", "role", "added", "state"]);
    for user in users {
        let (state, tone) = match (user.disabled, user.password_is_one_time) {
            (true, _) => ("disabled", Tone::Bad),
            (false, true) => ("has not signed in", Tone::Warn),
            (false, false) => ("", Tone::Plain),
        };
        table.add_row([
            table::cell(&user.email, Tone::Plain),
            table::cell(&user.name, Tone::Plain),
            table::cell(role_word(user.role()), Tone::Plain),
            table::cell(time::relative(time::instant(user.created_at.as_ref()), now), Tone::Dim),
            table::cell(state, tone),
        ]);
    }
    table::text(&table, "nobody")
}
