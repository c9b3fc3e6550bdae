//! `orrery login`, `logout`, `password` and `whoami`.

mod browser;

use crate::{
    arguments::people::Login,
    commands::users::role_word,
    connection::{CALL_TIMEOUT, Connection},
    failure::{Code, Failure, Result},
    kept::Kept,
    render::Output,
    terminal,
};
use proto::v1::{ChangePasswordRequest, SignInRequest, SignInResponse, SignOutRequest, WhoAmIRequest};
use rpc::{client::within, status::Problem};
use std::{
    fs,
    io::{IsTerminal, stdin},
    path::Path,
};

/// Signs in with a password, or by a browser, and keeps the token.
pub(crate) async fn login(
    server: Option<&str>,
    token_file: Option<&Path>,
    workspace: &str,
    output: &Output,
    options: Login,
) -> Result<Code> {
    let connection = Connection::open(server, token_file, workspace)?;
    let name = format!("orrery on {}", host());
    let email = match options.email {
        _ if options.browser => String::new(),
        Some(email) => email,
        None => terminal::ask("e-mail address, or nothing to sign in by a browser: ")?,
    };
    if options.browser || (email.is_empty() && stdin().is_terminal()) {
        let answer = browser::sign_in(&connection, &name).await?;
        return keep(&connection, output, answer);
    }
    let (password, next) = passwords(options.password_file.as_deref())?;
    let mut request = SignInRequest { email, password, new_password: String::new(), token_name: name };
    let answer = match connection.sign_ins().sign_in(within(CALL_TIMEOUT, request.clone())).await {
        Err(status) if Problem::from_status(&status).reason == "NEW_PASSWORD_NEEDED" => {
            request.new_password = match next {
                Some(next) => next,
                None => new_password("this password was for one use; a new one")?,
            };
            connection.sign_ins().sign_in(within(CALL_TIMEOUT, request)).await?
        }
        other => other?,
    };
    keep(&connection, output, answer.into_inner())
}

fn keep(connection: &Connection, output: &Output, answer: SignInResponse) -> Result<Code> {
    let mut kept = Kept::load();
    kept.add(connection.server(), answer.token.clone());
    kept.save()?;
    // The token itself is in the file, and in nobody's scroll-back.
    let shown = SignInResponse { token: String::new(), ..answer };
    output.answer("orrery.v1.SignInResponse", &shown, || {
        let email = shown.user.as_ref().map_or("", |user| user.email.as_str());
        format!("signed in to {} as {email}", connection.server())
    })?;
    Ok(Code::Ok)
}

/// The password, and the one that shall follow it, from a file or from the person.
fn passwords(file: Option<&Path>) -> Result<(String, Option<String>)> {
    let Some(file) = file else { return Ok((terminal::ask_secret("password: ")?, None)) };
    let text = fs::read_to_string(file)
        .map_err(|e| Failure::new(Code::Permission, format!("cannot read {}: {e}", file.display()), ""))?;
    let mut lines = text.lines().map(str::to_owned);
    Ok((lines.next().unwrap_or_default(), lines.next().filter(|line| !line.is_empty())))
}

fn new_password(what: &str) -> Result<String> {
    let first = terminal::ask_secret(&format!("{what}, of 12 characters or more: "))?;
    if terminal::ask_secret("and again: ")? == first {
        return Ok(first);
    }
    Err(Failure::new(Code::Usage, "the two passwords differ", "begin again"))
}

fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// Gives the kept token back.
pub(crate) async fn logout(connection: &Connection, output: &Output) -> Result<Code> {
    let mut kept = Kept::load();
    if kept.token(connection.server()).is_none() {
        let what = format!("there is no kept token for {}", connection.server());
        return Err(Failure::new(Code::NotFound, what, "`orrery login` keeps one"));
    }
    let request = within(CALL_TIMEOUT, SignOutRequest {});
    let answer = connection.sign_ins().sign_out(request).await;
    kept.remove(connection.server());
    kept.save()?;
    match answer {
        // A token that opens nothing any more is what was wanted.
        Err(status) if status.code() == tonic::Code::Unauthenticated => {}
        other => drop(other?),
    }
    let server = connection.server();
    output.answer("orrery.v1.SignOutResponse", &proto::v1::SignOutResponse {}, || format!("signed out of {server}"))?;
    Ok(Code::Ok)
}

/// Changes the own password.
pub(crate) async fn password(connection: &Connection, output: &Output, file: Option<&Path>) -> Result<Code> {
    let (password, next) = passwords(file)?;
    let new_password = match next {
        Some(next) => next,
        None => new_password("a new one")?,
    };
    let request = within(CALL_TIMEOUT, ChangePasswordRequest { password, new_password });
    let answer = connection.sign_ins().change_password(request).await?.into_inner();
    output.answer("orrery.v1.ChangePasswordResponse", &answer, || {
        "the password is changed; other sessions and sign-ins by the former one have ended".to_owned()
    })?;
    Ok(Code::Ok)
}

/// Who the server takes us for.
pub(crate) async fn whoami(connection: &Connection, output: &Output) -> Result<Code> {
    let answer = connection.sign_ins().who_am_i(within(CALL_TIMEOUT, WhoAmIRequest {})).await?.into_inner();
    output.answer("orrery.v1.WhoAmIResponse", &answer, || {
        let user = answer.user.clone().unwrap_or_default();
        let role = role_word(user.role());
        format!(
            "{}\n  role      {role}\n  by        {}\n  project   {}\n  server    {}",
            user.email,
            answer.via,
            answer.personal_project,
            connection.server()
        )
    })?;
    Ok(Code::Ok)
}
