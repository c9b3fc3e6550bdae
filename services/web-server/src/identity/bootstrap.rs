//! The first start: an owner with a one-time password, because there is never a default one. Refuses to act when anybody
//! is there.

use super::{passwords, tokens};
use crate::fault::Fault;
use crate::people;
use domain::id::UserId;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use store::Store;
use store::users::{self, User};

/// Makes the first owner unless somebody is there, and tells the one-time password: into `file` for the eyes of this
/// user only, or else on the standard error. Answers the owner who was there first.
///
/// # Errors
/// When the database does not answer, or the file cannot be written.
pub(crate) async fn first_owner(store: &Store, email: &str, file: Option<&Path>) -> Result<Option<User>, Fault> {
    let mut db = store.client().await?;
    if !users::any(&db).await? {
        let password = tokens::one_time_password();
        let hash = passwords::hash(password.clone()).await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let id = UserId(uuid::Uuid::now_v7());
        if let Some(owner) = users::insert_first(&transaction, id, email, &hash).await? {
            people::settle(&transaction, &owner).await?;
            // Told first: an owner whose password nobody knows could not be mended.
            tell(email, &password, file).map_err(|e| Fault::internal(&e))?;
            transaction.commit().await.map_err(store::Error::from)?;
            tracing::info!(email, "made the first owner");
        }
    }
    Ok(users::first_owner(&db).await?)
}

/// A log is read by more people than the one who starts a server: the password goes elsewhere.
fn tell(email: &str, password: &str, file: Option<&Path>) -> io::Result<()> {
    let Some(file) = file else {
        let mut out = io::stderr().lock();
        return writeln!(
            out,
            "\n  The first owner is {email}; the one-time password is {password}\n  \
             Sign in by `orrery login --server URL --email {email}`, which asks for a password of your own.\n"
        );
    };
    // Never readable by others, not even for a moment.
    let _ = std::fs::remove_file(file);
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(file, "{email}\n{password}")
}
