//! What callers say: recordings, with their transcripts where there are some.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::options::Options;
use crate::words;

/// What a line consists of; the two are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Words.
    Sentence,
    /// A number, read out digit by digit.
    Digits,
}

/// Something that a caller says.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The words, where they are known.
    pub(crate) text: Option<String>,
    /// Who speaks, where that is known.
    pub(crate) speaker: Option<String>,
    file: Option<PathBuf>,
    /// Length of the recording.
    pub(crate) seconds: Option<f64>,
}

impl Line {
    /// Words for a voice model to say.
    pub(crate) fn text(text: &str) -> Self {
        Self {
            name: text.to_owned(),
            kind: Kind::Sentence,
            text: Some(text.to_owned()),
            speaker: None,
            file: None,
            seconds: None,
        }
    }

    pub(crate) fn recording(&self) -> Result<&Path> {
        self.file
            .as_deref()
            .ok_or_else(|| format!("{}: there is no recording", self.name).into())
    }

    /// The words as a voice model says them; empty where they are not known.
    pub(crate) fn spoken(&self) -> String {
        let text = self.text.clone().unwrap_or_default();
        match self.kind {
            Kind::Sentence => text,
            Kind::Digits => words::spell_out(&text),
        }
    }
}

/// The lines of the folders of `--audio`, or of those that the repository brings.
pub(crate) fn lines(options: &Options) -> Result<Vec<Line>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = options.all("audio").iter().map(PathBuf::from).collect();
    if folders.is_empty() {
        let brought = ["tests/bench/audio", "tests/calls/audio"].map(|folder| root.join(folder));
        folders.extend(brought.into_iter().find(|folder| folder.is_dir()));
    }
    let mut lines = Vec::new();
    for folder in &folders {
        let found =
            read_folder(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        lines.extend(found);
    }
    match lines.is_empty() {
        false => Ok(lines),
        true => Err("no recordings: --audio DIR names a folder of WAV files".into()),
    }
}

/// The spoken digits of the folders of `--audio`, and those that the repository brings.
pub(crate) fn digits(options: &Options) -> Result<Vec<Line>> {
    let brought = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/stt/digits");
    let mut lines = read_folder(&brought)?;
    for folder in options.all("audio").iter().map(Path::new) {
        lines.extend(read_folder(folder)?);
    }
    lines.retain(|line| line.kind == Kind::Digits);
    Ok(lines)
}

fn read_folder(folder: &Path) -> Result<Vec<Line>> {
    let transcripts = transcripts(&folder.join("transcripts.tsv"))?;
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wav"));
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let name = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let reader = hound::WavReader::open(&file)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            let seconds = f64::from(reader.duration()) / f64::from(reader.spec().sample_rate);
            let row = transcripts.rows.get(&name);
            Ok(Line {
                name,
                kind: row.map_or(Kind::Sentence, |_| transcripts.kind),
                text: row.map(|row| row.text.clone()),
                speaker: row.and_then(|row| row.speaker.clone()),
                file: Some(file),
                seconds: Some(seconds),
            })
        })
        .collect()
}

/// What is said in a folder's recordings.
struct Transcripts {
    kind: Kind,
    rows: BTreeMap<String, Row>,
}

struct Row {
    text: String,
    speaker: Option<String>,
}

/// Tab-separated: `name` and `text` or `digits`, and `speaker` where it is known, in whatever order
/// the first line names them.
fn transcripts(file: &Path) -> Result<Transcripts> {
    let Ok(table) = fs::read_to_string(file) else {
        return Ok(Transcripts {
            kind: Kind::Sentence,
            rows: BTreeMap::new(),
        });
    };
    let mut lines = table.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| head.iter().position(|cell| *cell == name);
    let (column_of_text, kind) = match (column("text"), column("digits")) {
        (Some(text), _) => (text, Kind::Sentence),
        (None, Some(digits)) => (digits, Kind::Digits),
        (None, None) => {
            return Err("transcripts.tsv has neither a column `text` nor `digits`".into());
        }
    };
    let column_of_name = column("name").ok_or("transcripts.tsv has no column `name`")?;
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let cell = |column: usize| cells.get(column).map(|cell| cell.trim().to_owned());
        let row = Row {
            text: cell(column_of_text)?,
            speaker: column("speaker").and_then(cell),
        };
        Some((cell(column_of_name)?, row))
    };
    Ok(Transcripts {
        kind,
        rows: lines.filter_map(row).collect(),
    })
}
