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

/// Whom the first owner's one-time password is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling<'a> {
    /// A file, for the eyes of this user only.
    File(&'a Path),
    /// Whoever starts this server and sees its standard error.
    Printed,
    /// Nobody: the operator has a token, and a log is read by more people than that one.
    Nobody,
}

impl<'a> Telling<'a> {
    /// Of the settings.
    pub(crate) fn of(file: Option<&'a Path>, has_operator: bool) -> Self {
        match file {
            Some(file) => Self::File(file),
            None if has_operator => Self::Nobody,
            None => Self::Printed,
        }
    }

    fn tell(self, email: &str, password: &str) -> io::Result<()> {
        match self {
            Self::File(file) => write(file, email, password),
            Self::Printed => writeln!(
                io::stderr().lock(),
                "\n  The first owner is {email}; the one-time password is {password}\n  \
                 Sign in by `orrery login --server URL --email {email}`, which asks for a password of your own.\n"
            ),
            Self::Nobody => writeln!(
                io::stderr().lock(),
                "\n  The first owner is {email}, whose password nobody was told. With the operator's token,\n  \
                 `orrery --server URL --token-file FILE users reset-password {email}` prints a one-time password.\n"
            ),
        }
    }
}

/// Makes the first owner unless somebody is there, and tells the one-time password. Answers the owner who was there first.
///
/// # Errors
/// When the database does not answer, or the file cannot be written.
pub(crate) async fn first_owner(store: &Store, email: &str, telling: Telling<'_>) -> Result<Option<User>, Fault> {
    let mut db = store.client().await?;
    if !users::any(&db).await? {
        let password = tokens::one_time_password();
        let hash = passwords::hash(password.clone()).await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let id = UserId(uuid::Uuid::now_v7());
        if let Some(owner) = users::insert_first(&transaction, id, email, &hash).await? {
            people::settle(&transaction, &owner).await?;
            // Told first: an owner whose password should have been known, and is not, could not be mended.
            telling.tell(email, &password).map_err(|e| Fault::internal(&e))?;
            transaction.commit().await.map_err(store::Error::from)?;
            tracing::info!(email, "made the first owner");
        }
    }
    Ok(users::first_owner(&db).await?)
}

/// Never readable by others, not even for a moment.
fn write(file: &Path, email: &str, password: &str) -> io::Result<()> {
    let _ = std::fs::remove_file(file);
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(file, "{email}\n{password}")
}
