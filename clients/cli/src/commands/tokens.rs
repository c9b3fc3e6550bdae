//! `orrery tokens`: one's own.

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
use proto::v1::{AccessToken, CreateTokenRequest, ListTokensRequest, ListTokensResponse, RevokeTokenRequest};
use rpc::client::within;

/// Lists tokens, makes or ends one.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Tokens>) -> Result<Code> {
    let mut tokens = connection.tokens();
    match act {
        None => {
            let request = ListTokensRequest { page_size: PAGE_SIZE, ..ListTokensRequest::default() };
            let found = pages!(connection.tokens(), list_tokens, request, tokens);
            let all = ListTokensResponse { tokens: found, next_page_token: String::new() };
            output.answer("orrery.v1.ListTokensResponse", &all, || table_of(&all.tokens, output))?;
        }
        Some(Tokens::Create { name, lifetime }) => {
            let lifetime = lifetime.map(to_proto).transpose()?;
            let request = CreateTokenRequest { name, lifetime, made: None };
            let made = tokens.create_token(within(CALL_TIMEOUT, request)).await?.into_inner();
            // Alone on its line, so that a script can keep it.
            output.answer("orrery.v1.CreateTokenResponse", &made, || made.token.clone())?;
        }
        Some(Tokens::Revoke { token }) => {
            let request = within(CALL_TIMEOUT, RevokeTokenRequest { token });
            let answer = tokens.revoke_token(request).await?.into_inner();
            output
                .answer("orrery.v1.RevokeTokenResponse", &answer, || "the token opens nothing any more".to_owned())?;
        }
    }
    Ok(Code::Ok)
}

fn to_proto(lifetime: SignedDuration) -> Result<prost_types::Duration> {
    let lifetime = std::time::Duration::try_from(lifetime).ok().and_then(|d| prost_types::Duration::try_from(d).ok());
    lifetime
        .ok_or_else(|| Failure::new(Code::Usage, "a token lasts longer than nothing", "give --lifetime such as 24h"))
}

fn table_of(tokens: &[AccessToken], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["token", "name", "made", "last used", "ends"]);
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
            table::cell(time::relative(time::instant(token.created_at.as_ref()), now), Tone::Dim),
            table::cell(time::relative(time::instant(token.last_used_at.as_ref()), now), Tone::Dim),
            table::cell(ends, tone),
        ]);
    }
    table::text(&table, "no tokens")
}
