//! `orrery outputs`: a look at what a block left, or its files.

mod save;

use crate::{
    connection::{CALL_TIMEOUT, Connection},
    failure::{Code, Result},
    render::{
        Output, bytes,
        style::{Style, harmless},
        table::{self, Tone},
        time,
    },
};
use jiff::Timestamp;
use prost_types::{Struct, Value, value::Kind};
use proto::v1::{DownloadOutputRequest, GetOutputsRequest, GetOutputsResponse, OutputPreview};
use rpc::client;
use std::path::Path;

/// Rows that a terminal is shown.
const ROWS_MAX: usize = 20;
/// Columns that a terminal is shown.
const COLUMNS_MAX: usize = 12;
/// Characters of one cell.
const CELL_CHARS_MAX: usize = 40;

/// Shows each output.
pub(crate) async fn run(connection: &Connection, output: &Output, request: GetOutputsRequest) -> Result<Code> {
    let answer = connection.outputs().get_outputs(client::within(CALL_TIMEOUT, request)).await?.into_inner();
    output.answer("orrery.v1.GetOutputsResponse", &answer, || shown(&answer, output.style))?;
    Ok(Code::Ok)
}

/// Saves the files of each output below a folder.
pub(crate) async fn save(
    connection: &Connection,
    output: &Output,
    request: GetOutputsRequest,
    folder: &Path,
) -> Result<Code> {
    let answer = connection.outputs().get_outputs(client::within(CALL_TIMEOUT, request.clone())).await?.into_inner();
    let mut paths = Vec::new();
    for name in answer.outputs.iter().map(|preview| preview.name.clone()) {
        let GetOutputsRequest { run_id, block, child, .. } = request.clone();
        let of_one = DownloadOutputRequest { run_id, block, child, name, file: String::new() };
        paths.extend(save::output(connection, &of_one, folder).await?);
    }
    let lines = || paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n");
    output.answer("orrery.v1.GetOutputsResponse", &answer, lines)?;
    Ok(Code::Ok)
}

fn shown(answer: &GetOutputsResponse, style: Style) -> String {
    let mut parts: Vec<String> = answer.outputs.iter().map(|preview| one(preview, style)).collect();
    if let Some(expired) = time::instant(answer.expired_at.as_ref()) {
        parts.push(
            style.warn(&format!("the outputs are gone since {}", time::relative(Some(expired), Timestamp::now()))),
        );
    }
    if !answer.unavailable.is_empty() {
        parts.push(style.warn(&answer.unavailable));
    }
    if parts.is_empty() { "no outputs".to_owned() } else { parts.join("\n\n") }
}

fn one(preview: &OutputPreview, style: Style) -> String {
    let rows = if preview.rows >= 0 { format!("{} rows, ", preview.rows) } else { String::new() };
    let facts = format!("{}, {rows}{}", preview.kind, bytes(preview.size_bytes));
    let head = format!("{}  {}", style.bold(&preview.name), style.dim(&facts));
    let body = if !preview.columns.is_empty() {
        columns(preview, style)
    } else if !preview.sample.is_empty() {
        let items: Vec<String> =
            preview.sample.iter().take(ROWS_MAX).map(|item| cut(&text(item), 4 * CELL_CHARS_MAX)).collect();
        items.join("\n")
    } else {
        harmless(&preview.text)
    };
    let more = usize::try_from(preview.rows).unwrap_or(0).max(preview.sample.len()).saturating_sub(ROWS_MAX);
    let more = if more > 0 { style.dim(&format!("\n… and {more} more")) } else { String::new() };
    if body.is_empty() { head } else { format!("{head}\n{body}{more}") }
}

fn columns(preview: &OutputPreview, style: Style) -> String {
    let shown = &preview.columns[..preview.columns.len().min(COLUMNS_MAX)];
    let headings: Vec<String> = shown
        .iter()
        .map(|column| format!("{}\n{}", cut(&harmless(&column.name), CELL_CHARS_MAX), column.r#type))
        .collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = table::new(style, &headings);
    for row in preview.sample.iter().take(ROWS_MAX) {
        let Some(Kind::ListValue(cells)) = &row.kind else { continue };
        table.add_row(
            cells
                .values
                .iter()
                .take(COLUMNS_MAX)
                .map(|cell| table::cell(cut(&text(cell), CELL_CHARS_MAX), Tone::Plain)),
        );
    }
    let hidden = preview.columns.len() - shown.len();
    let hidden = if hidden > 0 { style.dim(&format!("\n… and {hidden} more columns")) } else { String::new() };
    format!("{}{hidden}", table::text(&table, "no rows"))
}

/// A value as one reads it: text without quotes, everything else as JSON.
fn text(value: &Value) -> String {
    match &value.kind {
        Some(Kind::StringValue(text)) => harmless(text),
        _ => harmless(&json(value).to_string()),
    }
}

fn json(value: &Value) -> serde_json::Value {
    let wrapped = Struct { fields: [("value".to_owned(), value.clone())].into() };
    rpc::json::shown_to_json(wrapped).ok().and_then(|mut map| map.remove("value")).unwrap_or_default()
}

fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max { text.to_owned() } else { text.chars().take(max).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::ListValue;
    use proto::v1::OutputColumn;

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    #[test]
    fn tables_are_tables_and_hidden_things_are_counted() {
        let row = |n: f64| {
            value(Kind::ListValue(ListValue {
                values: vec![value(Kind::NumberValue(n)), value(Kind::StringValue("a\x1b[2J".into()))],
            }))
        };
        let preview = OutputPreview {
            name: "output_0".into(),
            kind: "dataframe".into(),
            rows: 1_000,
            size_bytes: 2_048,
            columns: ["n", "s"].map(|name| OutputColumn { name: name.into(), r#type: "int64".into() }).to_vec(),
            sample: (0..30).map(|n| row(f64::from(n))).collect(),
            ..OutputPreview::default()
        };
        let text = one(&preview, Style { colour: false });
        assert!(text.starts_with("output_0  dataframe, 1000 rows, 2.0 KiB\n n "), "{text}");
        assert!(text.contains("… and 980 more") && !text.contains('\x1b'), "{text}");
        assert_eq!(text.lines().count(), 1 + 2 + ROWS_MAX + 1, "{text}");
    }

    #[test]
    fn what_is_gone_says_so() {
        let mut answer = GetOutputsResponse { unavailable: "it is away".into(), ..GetOutputsResponse::default() };
        assert_eq!(shown(&answer, Style { colour: false }), "it is away");
        answer.unavailable.clear();
        assert_eq!(shown(&answer, Style { colour: false }), "no outputs");
    }
}
