//! A person shows a password. Refuses to know what is given in return: a token, or a cookie.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::passwords;
use crate::people;
use domain::ErrorKind;
use std::time::Instant;
use store::credentials::{self, Shown};
use store::users::{self, PasswordState, User};

/// What was typed; `Debug` is left out on purpose.
pub(crate) struct Attempt {
    pub(crate) email: String,
    pub(crate) password: String,
    /// In place of a one-time password.
    pub(crate) new_password: String,
}

/// The person whose password this is. A one-time password is changed in the same act.
///
/// # Errors
/// In one and the same words for a wrong password, a wrong address and somebody who may not sign in.
pub(crate) async fn by_password(core: &Core, attempt: Attempt) -> Result<User, Fault> {
    let known = compare(core, &attempt).await?;
    match (known.state, attempt.new_password.is_empty()) {
        (PasswordState::OneTime, true) => {
            let message = "the one-time password is right; give a password of your own with it, in `new_password`";
            return Err(Fault::new(ErrorKind::FailedPrecondition, "NEW_PASSWORD_NEEDED", message));
        }
        (PasswordState::OneTime, false) => replace(core, &known, &attempt, &Shown::default()).await?,
        (_, false) => return Err(Fault::field("new_password", "must be empty; change a password when signed in")),
        (_, true) => {}
    }
    let db = core.store.client().await?;
    users::get_by_id(&db, known.user).await?.filter(|user| !user.disabled).ok_or_else(wrong)
}

/// Changes one's own password, and ends what the former one opened, but `kept`.
///
/// # Errors
/// When the old password is wrong, or the new one is none.
pub(crate) async fn change_password(core: &Core, attempt: Attempt, kept: &Shown<'_>) -> Result<(), Fault> {
    let known = compare(core, &attempt).await?;
    replace(core, &known, &attempt, kept).await
}

async fn compare(core: &Core, attempt: &Attempt) -> Result<users::Password, Fault> {
    let email = people::email(&attempt.email, "email")?;
    core.guesses.take(&email, Instant::now())?;
    let known = users::password(&core.store.client().await?, &email).await?;
    let hash = known.as_ref().map(|known| known.hash.clone());
    let right = passwords::verify(attempt.password.clone(), hash).await?;
    if right {
        core.guesses.forgive(&email);
    }
    known.filter(|_| right).ok_or_else(wrong)
}

async fn replace(core: &Core, known: &users::Password, attempt: &Attempt, kept: &Shown<'_>) -> Result<(), Fault> {
    passwords::check(&attempt.new_password, "new_password")?;
    if attempt.new_password == attempt.password {
        return Err(Fault::field("new_password", "must be another one"));
    }
    let hash = passwords::hash(attempt.new_password.clone()).await?;
    let mut db = core.store.client().await?;
    let transaction = db.transaction().await.map_err(store::Error::from)?;
    if !users::set_password(&transaction, known.user, &hash, PasswordState::Set, Some(&known.hash)).await? {
        let message = "the password was changed meanwhile; sign in with the new one";
        return Err(Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", message));
    }
    credentials::end_of_password(&transaction, known.user, kept).await?;
    Ok(transaction.commit().await.map_err(store::Error::from)?)
}

fn wrong() -> Fault {
    Fault::unauthenticated("the address or the password is wrong")
}
