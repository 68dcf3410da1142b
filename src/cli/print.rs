//! Standard output for results, standard error for what went wrong. A reader that goes away
//! (`| head`) is no error.

use std::io::Write;

use serde::Serialize;

/// One line of a result.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A result for programs.
pub fn json<T: Serialize>(value: &T) {
    // What is printed here holds no maps with keys other than text.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    line(&text);
}

/// What went wrong.
pub fn error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Columns as wide as their widest cell; the last one is not padded.
pub fn table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|cell| cell.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let print = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        line(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    print(head.to_vec());
    for row in rows {
        print(row.iter().map(String::as_str).collect());
    }
}
