//! Where an addressed thing is, and the highest role that a person has there. One statement for each kind of thing.
//! Refuses to know which role an act needs.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::{
    id::{ProjectId, UserId, WorkspaceId},
    role::Role,
};
use uuid::Uuid;

/// The project, and the workspace, that a thing belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The project.
    pub project: ProjectId,
    /// The workspace; `None` when the thing is the project.
    pub workspace: Option<WorkspaceId>,
    /// The name of the narrower of the two.
    pub name: String,
    /// That one is archived.
    pub archived: bool,
    /// What the person may do there, by membership of any kind.
    pub role: Option<Role>,
}

/// A thing that a request can address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing<'a> {
    /// A project by name.
    Project(&'a str),
    /// A workspace by name.
    Workspace(&'a str),
    /// A run by id.
    Run(Uuid),
    /// A trigger by id.
    Trigger(Uuid),
    /// A backfill by id.
    Backfill(Uuid),
    /// A version of a model by id.
    ModelVersion(Uuid),
    /// An upload of a model by id.
    Upload(Uuid),
}

/// Finds a thing, and what `user` may do there; `None` asks for nobody in particular.
///
/// # Errors
/// When the statement fails.
pub async fn find(db: &impl GenericClient, thing: Thing<'_>, user: Option<UserId>) -> Result<Option<Target>, Error> {
    let user = user.map(|id| id.0);
    let row = match thing {
        Thing::Project(name) => query::row(db, include_str!("../sql/project/target.sql"), &[&name, &user]).await?,
        Thing::Workspace(name) => query::row(db, include_str!("../sql/workspace/target.sql"), &[&name, &user]).await?,
        Thing::Run(id) => query::row(db, include_str!("../sql/run/target.sql"), &[&id, &user]).await?,
        Thing::Trigger(id) => query::row(db, include_str!("../sql/trigger/target.sql"), &[&id, &user]).await?,
        Thing::Backfill(id) => query::row(db, include_str!("../sql/backfill/target.sql"), &[&id, &user]).await?,
        Thing::ModelVersion(id) => {
            query::row(db, include_str!("../sql/model_version/target.sql"), &[&id, &user]).await?
        }
        Thing::Upload(id) => query::row(db, include_str!("../sql/model_upload/target.sql"), &[&id, &user]).await?,
    };
    Ok(row.map(|row| Target {
        project: ProjectId(row.get(0)),
        workspace: row.get::<_, Option<Uuid>>(1).map(WorkspaceId),
        name: row.get(2),
        archived: row.get(3),
        role: Role::of_rank(row.get(4)),
    }))
}
