//! Tables as people read them.

use comfy_table::{
    CellAlignment, ColumnConstraint, ContentArrangement, ContentLineStyle, LineStyle, Table,
    TableStyle, presets,
};

/// Fits the terminals and the documents that tables are read in.
const WIDTH: u16 = 96;

const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none())
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none());

/// A table with a rule below its header, and cells that wrap.
pub(crate) fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(header.into_iter().map(Into::into).collect::<Vec<String>>());
    table
}

/// A table as Markdown has it, each row one line.
pub(crate) fn markdown<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Table {
    let mut table = new(header);
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Numbers stand at the right, from this column on.
pub(crate) fn align_right(table: &mut Table, from: usize) {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Columns that do not wrap, up to this one.
pub(crate) fn keep_whole(table: &mut Table, count: usize) {
    for column in table.column_iter_mut().take(count) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
}

/// The lines of a table, without blanks at their ends.
pub(crate) fn show(table: &Table) -> String {
    table.trim_fmt()
}
