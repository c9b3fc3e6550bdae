//! Tables without frames, that fit the terminal.

use super::style::Style;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

/// What a cell's colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Busy,
    Warn,
    Dim,
}

/// An empty table with these headings.
pub(crate) fn new(style: Style, headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if style.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headings.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    table
}

/// A text cell.
pub(crate) fn cell(text: impl ToString, tone: Tone) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Busy => cell.fg(Color::Cyan),
        Tone::Warn => cell.fg(Color::Yellow),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
    }
}

/// A number, to the right.
pub(crate) fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

/// The table, or `nothing` when it has no rows.
pub(crate) fn text(table: &Table, nothing: &str) -> String {
    if table.is_empty() { nothing.to_owned() } else { table.trim_fmt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_without_colour() {
        let mut table = new(Style { colour: false }, &["name", "n"]);
        assert_eq!(text(&table, "none"), "none");
        table.add_row([cell("a", Tone::Bad), number(12)]);
        assert_eq!(text(&table, "none"), " name  n\n a     12");
    }
}
