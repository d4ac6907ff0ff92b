//! What commands print, and how it is made safe for a terminal.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;

use crate::error::{Code, Error, Result};
use crate::printable::printable;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ListFormat {
    /// For a person.
    Table,
    /// An array of objects.
    Json,
}

/// The text as it may reach a terminal: names of tables and texts of servers are others' to choose.
pub fn shown(text: &str) -> String {
    text.split('\n').map(|line| printable(line, usize::MAX)).collect::<Vec<_>>().join("\n")
}

/// SQL as it is, so that it can be run, but for a terminal.
pub fn print_script(text: &str) -> Result<()> {
    let terminal = std::io::stdout().is_terminal();
    print(&if terminal { shown(text) } else { text.to_owned() }).map(drop)
}

/// Whether somebody reads on.
pub fn print(text: &str) -> Result<bool> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::stop(Code::OutputFailed, format!("cannot write to standard output: {error}"))),
    }
}

/// JSON on several lines.
pub fn print_json(value: &(impl serde::Serialize + ?Sized)) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::bug(format!("cannot write JSON: {error}")))?;
    print(&format!("{text}\n")).map(drop)
}

/// Columns as wide as their widest cell; the first row is the header.
pub fn print_table(rows: Vec<Vec<String>>) -> Result<()> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell, usize::MAX)).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    print(&text).map(drop)
}
