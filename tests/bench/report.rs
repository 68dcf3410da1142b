//! What a bench found: tables for people, everything for programs.

use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Result;
use crate::load::Load;

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        Self {
            title: title.into(),
            head: head.iter().map(|cell| (*cell).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let all = self.rows.iter().chain(std::iter::once(&self.head));
            all.filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        (0..self.head.len()).map(width).collect()
    }

    fn to_json(&self) -> Value {
        let row = |cells: &Vec<String>| -> Value {
            let pairs = self
                .head
                .iter()
                .cloned()
                .zip(cells.iter().cloned().map(Value::String));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        json!({ "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.title)?;
        let widths = self.widths();
        for cells in std::iter::once(&self.head).chain(&self.rows) {
            let padded = cells
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                });
            writeln!(f, "  {}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// What was found, but for the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    tables: Vec<Table>,
    notes: Vec<String>,
    details: Map<String, Value>,
}

impl Findings {
    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(crate) fn notes(&mut self, texts: Vec<String>) {
        self.notes.extend(texts);
    }

    /// Something that only programs want.
    pub(crate) fn detail(&mut self, key: &str, value: Value) {
        self.details.insert(key.to_owned(), value);
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.tables.extend(more.tables);
        self.notes.extend(more.notes);
        self.details.extend(more.details);
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            write!(f, "{table}")?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

/// A finished bench.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    load: Load,
    findings: Findings,
}

impl Report {
    pub(crate) fn new(name: &'static str, load: Load) -> Self {
        Self::of(name, load, Findings::default())
    }

    pub(crate) fn of(name: &'static str, load: Load, findings: Findings) -> Self {
        Self {
            name,
            load,
            findings,
        }
    }

    pub(crate) fn table(&mut self, table: Table) {
        self.findings.table(table);
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.findings.note(text);
    }

    pub(crate) fn notes(&mut self, texts: Vec<String>) {
        self.findings.notes(texts);
    }

    /// Something that only programs want.
    pub(crate) fn detail(&mut self, key: &str, value: Value) {
        self.findings.detail(key, value);
    }

    /// Writes everything as JSON.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let value = json!({
            "bench": self.name,
            "machine": self.load.to_json(),
            "tables": self.findings.tables.iter().map(Table::to_json).collect::<Vec<_>>(),
            "notes": self.findings.notes,
            "details": self.findings.details,
        });
        let text = serde_json::to_string_pretty(&value)?;
        fs::write(file, text + "\n").map_err(|error| format!("{}: {error}", file.display()).into())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: {}", self.name, self.load)?;
        write!(f, "{}", self.findings)
    }
}
