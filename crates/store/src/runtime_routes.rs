//! Where requests for workspaces' applications go, and who may send them. Refuses to change anything.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::{
    id::{TokenId, UserId, WorkspaceId},
    role::Role,
    runtime::App,
};
use uuid::Uuid;

/// By what a workspace is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// Its name.
    Name(&'a str),
    /// Its id.
    Id(WorkspaceId),
}

/// Where requests go, as far as it is known.
#[derive(Debug, Clone)]
pub struct Route {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub name: String,
    /// It was put away.
    pub archived: bool,
    /// See the column `runtime.state`.
    pub state: String,
    /// Within the state.
    pub step: String,
    /// Why it is in this state, as a code.
    pub reason: String,
    /// In words.
    pub message: String,
    /// What would help.
    pub hint: String,
    /// Which life.
    pub number: i64,
    /// The pool that it is in.
    pub pool: String,
    /// `host:port`; empty while there is none.
    pub endpoint: String,
    /// What opens the application, sealed.
    pub access_key: Option<Vec<u8>>,
    /// What is opened; `None` when it never lived.
    pub app: Option<App>,
}

/// Who opens an application, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opener {
    /// The person.
    pub user: UserId,
    /// The sign-in that was shown.
    pub session: Option<Vec<u8>>,
    /// The token that was shown.
    pub token: Option<TokenId>,
}

/// The route of a workspace; `None` when there is no such workspace.
///
/// # Errors
/// When the statement fails, or what is stored cannot be read.
pub async fn find(db: &impl GenericClient, named: Named<'_>) -> Result<Option<Route>, Error> {
    let (name, id) = match named {
        Named::Name(name) => (Some(name), None),
        Named::Id(id) => (None, Some(id.0)),
    };
    let Some(row) = query::row(db, include_str!("../sql/runtime/route.sql"), &[&name, &id]).await? else {
        return Ok(None);
    };
    let app: Option<serde_json::Value> = row.get(12);
    let corrupt = |source| Error::Corrupt { what: "application", id: row.get(1), source };
    let app = app.map(serde_json::from_value).transpose().map_err(corrupt)?;
    Ok(Some(Route {
        workspace: WorkspaceId(row.get::<_, Uuid>(0)),
        name: row.get(1),
        archived: row.get(2),
        state: row.get(3),
        step: row.get(4),
        reason: row.get(5),
        message: row.get(6),
        hint: row.get(7),
        number: row.get(8),
        pool: row.get(9),
        endpoint: row.get(10),
        access_key: row.get(11),
        app,
    }))
}

/// Whether somebody has at least this role there now, by a sign-in or token that still holds.
///
/// # Errors
/// When the statement fails.
pub async fn may_open(
    db: &impl GenericClient,
    opener: &Opener,
    workspace: WorkspaceId,
    need: Role,
) -> Result<bool, Error> {
    let token = opener.token.map(|id| id.0);
    let roles: Vec<&str> = Role::ALL.into_iter().filter(|role| *role >= need).map(Role::word).collect();
    let rank = i32::try_from(Role::ALL.len() - roles.len() + 1).unwrap_or(i32::MAX);
    let parameters: query::Parameters<'_> = &[&opener.user.0, &workspace.0, &opener.session, &token, &rank, &roles];
    let row = query::row(db, include_str!("../sql/runtime/may_open.sql"), parameters).await?;
    Ok(row.is_some_and(|row| row.get(0)))
}
