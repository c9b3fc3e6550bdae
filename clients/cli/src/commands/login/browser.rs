//! Signing in by a browser. This program makes a token, and a person who is signed in at the server's page lets it in; from
//! then on the token works. It never travels through the browser, which is only told its hash. So whatever way there is to
//! sign in at the page will do, a provider's too, and the browser may be on another machine than this program.
//!
//! As with every way to let in a device, somebody could send a person an address of a program of their own. Therefore the
//! page shows a code, and says that it must be in the person's own terminal.

use crate::{
    connection::{CALL_TIMEOUT, Connection},
    failure::{Code, Failure, Result},
};
use proto::v1::{SignInResponse, WhoAmIRequest};
use rpc::{
    auth::Token,
    client::within,
    personal_token::{self, Fresh},
};
use std::{
    env,
    io::{IsTerminal, stderr},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long the person may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks whether the token works.
const LOOK_INTERVAL: Duration = Duration::from_millis(1_500);

/// Waits until a person lets this program in, under this name.
pub(super) async fn sign_in(connection: &Connection, name: &str) -> Result<SignInResponse> {
    let fresh = personal_token::generate();
    let address = address(connection.server(), name, &fresh);
    let code = personal_token::code(&fresh.prefix);
    eprintln!("open this address in any browser, and let this terminal in if the page shows the code {code}\n");
    eprintln!("  {address}\n\nwaiting for that, 10 minutes at most …");
    show(&address);
    let token = Token::new(&fresh.text).map_err(|e| Failure::new(Code::Internal, e, ""))?;
    let signed_in = Connection::to(connection.server(), Some(&token), &connection.workspace)?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match signed_in.sign_ins().who_am_i(within(CALL_TIMEOUT, WhoAmIRequest {})).await {
            Ok(answer) => {
                let user = answer.into_inner().user;
                return Ok(SignInResponse { token: fresh.text, expires_at: None, user });
            }
            Err(status) if matches!(status.code(), tonic::Code::Unauthenticated | tonic::Code::Unavailable) => {
                sleep(LOOK_INTERVAL).await;
            }
            Err(status) => return Err(status.into()),
        }
    }
    Err(Failure::new(Code::Temporary, "nobody let this terminal in", "try again"))
}

/// The page that asks the person. What stands behind `#` reaches no server and no log.
fn address(server: &str, name: &str, fresh: &Fresh) -> String {
    let hash = personal_token::hex(&fresh.secret_hash);
    format!("{server}/#/connect?prefix={}&sha256={hash}&name={}", fresh.prefix, encoded(name))
}

/// As a value in an address.
fn encoded(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(letter).collect()
}

/// Opens the person's browser, where there is one to be seen. Nothing depends on it: the address is printed.
fn show(address: &str) {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some());
    let opener = match env::consts::OS {
        "macos" => "open",
        _ if desktop => "xdg-open",
        _ => return,
    };
    if stderr().is_terminal() {
        let quiet = || Stdio::null();
        // One that is missing or fails leaves the printed address.
        let _ = Command::new(opener).arg(address).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_the_hash_and_never_the_secret() {
        let fresh = personal_token::generate();
        let address = address("https://orrery.example", "orrery on näs & co", &fresh);
        let (_, secret) = personal_token::split(&fresh.text).unwrap();
        assert!(address.starts_with("https://orrery.example/#/connect?prefix=orr_"), "{address}");
        assert!(address.ends_with("&name=orrery%20on%20n%C3%A4s%20%26%20co"), "{address}");
        assert!(!address.contains(secret) && address.contains(&personal_token::hex(&personal_token::hash(secret))));
    }
}
