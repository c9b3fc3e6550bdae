//! `orrery secrets`: values go in by standard input or a file, and never come out.

use crate::{
    arguments::people::{Scope, Secrets},
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Failure, Result},
    render::{
        Output, line,
        table::{self, Tone},
        time,
    },
    terminal,
};
use domain::references::MASKED_CHARS_MIN;
use jiff::Timestamp;
use proto::v1::{
    DeleteSecretRequest, ListSecretsRequest, ListSecretsResponse, RotateSecretsRequest, RotateSecretsResponse, Secret,
    SecretScope, SetSecretRequest,
};
use rpc::client::within;

/// Secrets of one call of a rotation.
const BATCH: i32 = 500;

/// Lists secrets, sets or forgets one, or changes the key of all.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Secrets>, scope: Scope) -> Result<Code> {
    let scope = Some(to_proto(connection, scope));
    let mut secrets = connection.secrets();
    match act {
        None => {
            let request = ListSecretsRequest { scope, page_size: PAGE_SIZE, page_token: String::new() };
            let found = pages!(connection.secrets(), list_secrets, request, secrets);
            let all = ListSecretsResponse { secrets: found, next_page_token: String::new() };
            output.answer("orrery.v1.ListSecretsResponse", &all, || table_of(&all.secrets, output))?;
        }
        Some(Secrets::Set { name, from_file }) => {
            let value = match from_file {
                Some(path) => std::fs::read_to_string(&path)
                    .map_err(|e| Failure::new(Code::Data, format!("cannot read {}: {e}", path.display()), ""))?,
                None => terminal::ask_secret(&format!("value of {name}: "))?,
            };
            let is_shown = value.trim().chars().count() < MASKED_CHARS_MIN;
            let request = SetSecretRequest { scope, name: name.clone(), value };
            let answer = secrets.set_secret(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.SetSecretResponse", &answer, || {
                let version = answer.secret.as_ref().map_or(0, |secret| secret.version);
                let remark = if is_shown { "; it is too short to be masked where runs are shown" } else { "" };
                format!("{name} is set, version {version}{remark}")
            })?;
        }
        Some(Secrets::Delete { name }) => {
            let request = within(CALL_TIMEOUT, DeleteSecretRequest { scope, name: name.clone() });
            let answer = secrets.delete_secret(request).await?.into_inner();
            output.answer("orrery.v1.DeleteSecretResponse", &answer, || format!("{name} is gone"))?;
        }
        Some(Secrets::Rotate) => rotate(connection, output).await?,
    }
    Ok(Code::Ok)
}

/// The answer counts what all calls together have done.
async fn rotate(connection: &Connection, output: &Output) -> Result<()> {
    let mut all = 0;
    loop {
        let request = within(CALL_TIMEOUT, RotateSecretsRequest { limit: BATCH });
        let mut answer = connection.secrets().rotate_secrets(request).await?.into_inner();
        all += answer.rotated;
        // What another rotation holds at this moment is left to it.
        if answer.remaining == 0 || answer.rotated == 0 {
            answer.rotated = all;
            return output.answer("orrery.v1.RotateSecretsResponse", &answer, || rotated(&answer));
        }
        if !output.json {
            line(&output.style.dim(&format!("{all} done, {} to go", answer.remaining)));
        }
    }
}

/// What is sealed is more than secrets: addresses of notifications and keys of applications too.
fn rotated(answer: &RotateSecretsResponse) -> String {
    let RotateSecretsResponse { rotated, remaining, key_id, missing_key_ids } = answer;
    let done = match rotated {
        0 => format!("nothing was sealed anew with the key `{key_id}`"),
        1 => format!("1 value is sealed anew with the key `{key_id}`"),
        many => format!("{many} values are sealed anew with the key `{key_id}`"),
    };
    match remaining {
        0 => format!("{done}; no value needs another one, so former keys can be taken out of `secret_keys_file`"),
        left if !missing_key_ids.is_empty() => format!(
            "{done}; {left} still need a former key, and the server has no `{}`: add it to the end of `secret_keys_file`, keep the others, and run \
             `orrery secrets rotate` again",
            missing_key_ids.join("`, `")
        ),
        left => format!("{done}; {left} still need a former key: keep it, and run `orrery secrets rotate` again"),
    }
}

fn to_proto(connection: &Connection, scope: Scope) -> SecretScope {
    match scope.project {
        Some(project) => SecretScope { project, ..SecretScope::default() },
        None => SecretScope {
            workspace: connection.workspace.clone(),
            pipeline: scope.pipeline.unwrap_or_default(),
            ..SecretScope::default()
        },
    }
}

fn table_of(secrets: &[Secret], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["secret", "pipeline", "version", "set", "by", "key"]);
    for secret in secrets {
        let pipeline = secret.scope.as_ref().map_or("", |scope| scope.pipeline.as_str());
        table.add_row([
            table::cell(&secret.name, Tone::Plain),
            table::cell(pipeline, Tone::Dim),
            table::number(secret.version),
            table::cell(time::relative(time::instant(secret.updated_at.as_ref()), now), Tone::Plain),
            table::cell(&secret.updated_by, Tone::Dim),
            table::cell(&secret.key_id, Tone::Dim),
        ]);
    }
    table::text(&table, "no secrets; `orrery secrets set NAME` reads a value from standard input")
}
