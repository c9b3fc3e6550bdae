//! `orrery limits`.

use crate::{
    arguments::limits::Limits,
    connection::{CALL_TIMEOUT, Connection},
    failure::{Code, Result},
    render::{
        Output,
        table::{self, Tone},
        time,
    },
};
use jiff::Timestamp;
use proto::v1::{Limit, ListLimitsRequest, RemoveLimitRequest, SetLimitRequest};
use rpc::client::within;

/// Carries out one act; without one, lists.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Limits>) -> Result<Code> {
    let workspace = connection.workspace.clone();
    match act {
        None | Some(Limits::List) => {
            let request = ListLimitsRequest { workspace };
            let answer = connection.limits().list_limits(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.ListLimitsResponse", &answer, || rows(&answer.limits, output))?;
        }
        Some(Limits::Set { name, blocks }) => {
            let max_blocks = i32::try_from(blocks).unwrap_or(i32::MAX);
            let request = SetLimitRequest { workspace, name: name.clone(), max_blocks };
            let answer = connection.limits().set_limit(within(CALL_TIMEOUT, request)).await?.into_inner();
            let what = if blocks == 1 { "block" } else { "blocks" };
            output.answer("orrery.v1.SetLimitResponse", &answer, || format!("{name}: {blocks} {what} at once"))?;
        }
        Some(Limits::Remove { name }) => {
            let request = RemoveLimitRequest { workspace, name: name.clone() };
            let answer = connection.limits().remove_limit(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.RemoveLimitResponse", &answer, || format!("{name} limits no more"))?;
        }
    }
    Ok(Code::Ok)
}

fn rows(limits: &[Limit], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["limit", "blocks at once", "held", "set by", "changed"]);
    for limit in limits {
        table.add_row([
            table::cell(&limit.name, Tone::Plain),
            table::number(limit.max_blocks),
            table::number(limit.held),
            table::cell(&limit.source, Tone::Dim),
            table::cell(time::relative(time::instant(limit.changed_at.as_ref()), now), Tone::Plain),
        ]);
    }
    table::text(&table, "no limits; 20 blocks of the workspace run at once")
}
