//! A real provider of OpenID Connect, where everybody is whom they say they are.
//!
//! It is the certified `oidc-provider` of npm's registry, installed once into the cache folder; each test has a process of
//! its own, which ends with the value or the test process.

use crate::{object_store::serve, skipped};
use provision::cache;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

const PACKAGE: &str = "oidc-provider@9.13.3";
/// Our name there, and our secret.
pub const CLIENT: (&str, &str) = ("orrery", "a-secret-of-the-client-0123456789");

/// An address that begins with `unverified` is told to be so. Claims are told to who asks with the access token.
const PROGRAM: &str = r#"import { Provider } from "oidc-provider";
const [port, redirect] = process.argv.slice(2);
const claims = (id) => ({ sub: `subject of ${id}`, email: id, email_verified: !id.startsWith("unverified"), name: id.split("@")[0] });
new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: "orrery", client_secret: "a-secret-of-the-client-0123456789", redirect_uris: [redirect] }],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => claims(id) }),
  pkce: { required: () => true },
  cookies: { keys: ["of a test"] },
}).listen(Number(port), "127.0.0.1");
"#;

/// A provider that knows one client.
#[derive(Debug)]
pub struct IdentityProvider {
    /// `http://127.0.0.1:…`
    pub issuer: String,
    _process: Child,
}

impl IdentityProvider {
    /// Starts one that sends people back to `redirect_url`. Blocking. `None`, and a word about it, where it cannot be
    /// installed.
    ///
    /// # Panics
    /// When it is installed and does not start.
    #[must_use]
    pub fn start(redirect_url: &str) -> Option<Self> {
        let folder = match install() {
            Ok(folder) => folder,
            Err(why) => {
                skipped(format!("{PACKAGE} cannot be installed, and nobody signs in elsewhere in this test: {why}"));
                return None;
            }
        };
        let program = folder.join("provider.mjs").display().to_string();
        let (process, port) =
            serve(|port| vec!["node".into(), program.clone(), port.to_string(), redirect_url.to_owned()]);
        Some(Self { issuer: format!("http://127.0.0.1:{port}"), _process: process })
    }
}

fn install() -> Result<PathBuf, String> {
    let key = cache::key(format!("{PACKAGE}{PROGRAM}").as_bytes());
    let folder = cache::dir().join("npm").join(format!("oidc-provider-{key}"));
    let _alone = cache::lock(&folder.with_extension("lock")).map_err(|error| error.to_string())?;
    let program = folder.join("provider.mjs");
    if program.exists() {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    run(Command::new("npm").args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg(PACKAGE))?;
    // Last: what is there is whole.
    write(&program)?;
    Ok(folder)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("npm cannot be started: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn write(program: &Path) -> Result<(), String> {
    let part = program.with_extension("part");
    fs::write(&part, PROGRAM).and_then(|()| fs::rename(&part, program)).map_err(|error| error.to_string())
}
