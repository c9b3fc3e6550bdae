//! `orrery tokens`: one's own, and the browsers in which one is signed in.

use crate::{
    arguments::people::Tokens,
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Failure, Result},
    render::{
        Output,
        table::{self, Tone},
        time,
    },
};
use jiff::{SignedDuration, Timestamp};
use proto::v1::{
    AccessToken, BrowserSession, CreateTokenRequest, CredentialOrigin, ListTokensRequest, ListTokensResponse,
    RevokeTokenRequest,
};
use rpc::client::within;

/// Lists tokens, makes or ends one.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Tokens>) -> Result<Code> {
    let mut tokens = connection.tokens();
    match act {
        None => {
            let request = ListTokensRequest { page_size: PAGE_SIZE, ..ListTokensRequest::default() };
            // The first page has the sessions as well.
            let first = tokens.list_tokens(within(CALL_TIMEOUT, request.clone())).await?.into_inner();
            let mut found = first.tokens;
            if !first.next_page_token.is_empty() {
                let request = ListTokensRequest { page_token: first.next_page_token, ..request };
                found.extend(pages!(connection.tokens(), list_tokens, request, tokens));
            }
            let all = ListTokensResponse { tokens: found, next_page_token: String::new(), sessions: first.sessions };
            output.answer("orrery.v1.ListTokensResponse", &all, || shown(&all, output))?;
        }
        Some(Tokens::Create { name, lifetime }) => {
            let lifetime = lifetime.map(to_proto).transpose()?;
            let request = CreateTokenRequest { name, lifetime, ..CreateTokenRequest::default() };
            let made = tokens.create_token(within(CALL_TIMEOUT, request)).await?.into_inner();
            // Alone on its line, so that a script can keep it.
            output.answer("orrery.v1.CreateTokenResponse", &made, || made.token.clone())?;
        }
        Some(Tokens::Revoke { token }) => {
            let request = within(CALL_TIMEOUT, RevokeTokenRequest { token });
            let answer = tokens.revoke_token(request).await?.into_inner();
            output.answer("orrery.v1.RevokeTokenResponse", &answer, || "it opens nothing any more".to_owned())?;
        }
    }
    Ok(Code::Ok)
}

fn to_proto(lifetime: SignedDuration) -> Result<prost_types::Duration> {
    let lifetime = std::time::Duration::try_from(lifetime).ok().and_then(|d| prost_types::Duration::try_from(d).ok());
    lifetime
        .ok_or_else(|| Failure::new(Code::Usage, "a token lasts longer than nothing", "give --lifetime such as 24h"))
}

fn shown(all: &ListTokensResponse, output: &Output) -> String {
    let tokens = table_of(&all.tokens, output);
    if all.sessions.is_empty() {
        return tokens;
    }
    format!("{tokens}\n{}", sessions_of(&all.sessions, output))
}

const fn came_from(origin: CredentialOrigin) -> &'static str {
    match origin {
        CredentialOrigin::Unspecified => "-",
        CredentialOrigin::Person => "a person",
        CredentialOrigin::Password => "password",
        CredentialOrigin::Elsewhere => "provider",
        CredentialOrigin::Operator => "operator",
    }
}

fn sessions_of(sessions: &[BrowserSession], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["session", "came from", "signed in", "ends"]);
    for session in sessions {
        let ends = time::instant(session.expires_at.as_ref());
        table.add_row([
            table::cell(&session.id, Tone::Plain),
            table::cell(came_from(session.origin()), Tone::Dim),
            table::cell(time::relative(time::instant(session.created_at.as_ref()), now), Tone::Dim),
            table::cell(ends.map(|at| at.strftime("%Y-%m-%d %H:%M").to_string()).unwrap_or_default(), Tone::Plain),
        ]);
    }
    table::text(&table, "no browser is signed in")
}

fn table_of(tokens: &[AccessToken], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["token", "name", "came from", "made", "last used", "ends"]);
    for token in tokens {
        let ends = time::instant(token.expires_at.as_ref());
        let (ends, tone) = match (token.revoked_at.is_some(), ends) {
            (true, _) => ("revoked".to_owned(), Tone::Dim),
            (false, Some(at)) if at <= now => ("expired".to_owned(), Tone::Dim),
            (false, Some(at)) => (at.strftime("%Y-%m-%d %H:%M").to_string(), Tone::Plain),
            (false, None) => ("never".to_owned(), Tone::Warn),
        };
        table.add_row([
            table::cell(&token.prefix, Tone::Plain),
            table::cell(&token.name, Tone::Plain),
            table::cell(came_from(token.origin()), Tone::Dim),
            table::cell(time::relative(time::instant(token.created_at.as_ref()), now), Tone::Dim),
            table::cell(time::relative(time::instant(token.last_used_at.as_ref()), now), Tone::Dim),
            table::cell(ends, tone),
        ]);
    }
    table::text(&table, "no tokens")
}
