//! From a file and the environment to a [`Config`], with every mistake collected.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_path_to_error::Segment;
use toml::{Table, Value};

use super::{Config, DEMO, DEMO_ASSISTANT, trunk, validate};

/// Prefix of overrides in the environment: `OFFHOOK__limits__max_calls=2`.
const PREFIX: &str = "OFFHOOK__";

/// More mistakes than this are not worth listing.
const MOST_MISTAKES: usize = 100;

/// Where a setting was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing was given; the defaults.
    Defaults,
    /// A file.
    File(PathBuf),
    /// The environment.
    Environment,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("defaults"),
            Self::File(path) => path.display().fmt(f),
            Self::Environment => f.write_str("environment"),
        }
    }
}

/// One thing that is wrong, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it was read.
    pub source: Source,
    /// Dotted key; empty where the file as a whole is at fault.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.source, self.message),
            key => write!(f, "{}: {key}: {}", self.source, self.message),
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Mistakes(pub Vec<Mistake>);

/// Reads a configuration. `environment` is what the process was given; only names that start
/// with `OFFHOOK__` matter.
///
/// # Errors
/// All mistakes at once.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Mistakes> {
    let mut mistakes = Vec::new();
    let source = file.map_or(Source::Defaults, |path| Source::File(path.to_owned()));
    let mut table = match file.map(read_table).transpose() {
        Ok(table) => table.unwrap_or_default(),
        Err(message) => {
            return Err(Mistakes(vec![Mistake {
                source,
                key: String::new(),
                message,
            }]));
        }
    };
    let overridden = apply_environment(&mut table, environment, &mut mistakes);
    trunk::fill_in(&mut table);
    let origin = |key: &str| match overridden.iter().any(|name| key.starts_with(name.as_str())) {
        true => Source::Environment,
        false => source.clone(),
    };
    let mut config = deserialize_all(table, &origin, &mut mistakes);
    add_demo_assistant(&mut config);
    for (key, message) in validate::validate(&config) {
        mistakes.push(Mistake {
            source: origin(&key),
            key,
            message,
        });
    }
    match mistakes.is_empty() {
        true => Ok(config),
        false => Err(Mistakes(mistakes)),
    }
}

fn read_table(path: &Path) -> Result<Table, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    text.parse::<Table>()
        .map_err(|error| format!("is not TOML: {}", error.to_string().trim_end()))
}

/// The demo assistant is there unless the file configures assistants itself.
fn add_demo_assistant(config: &mut Config) {
    if config.assistants.is_empty()
        && let Ok(demo) = toml::from_str(DEMO)
    {
        config.assistants.insert(DEMO_ASSISTANT.to_owned(), demo);
    }
}

/// Puts the environment's settings into the table and returns their dotted keys.
fn apply_environment(
    table: &mut Table,
    environment: impl IntoIterator<Item = (String, String)>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, text) in environment {
        let Some(path) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let path: Vec<&str> = path.split("__").collect();
        match insert(table, &path, parse_value(&text)) {
            Ok(()) => keys.push(path.join(".")),
            Err(message) => mistakes.push(Mistake {
                source: Source::Environment,
                key: path.join("."),
                message,
            }),
        }
    }
    keys
}

/// TOML where it parses, bare text otherwise, so that quotes are not needed.
fn parse_value(text: &str) -> Value {
    format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn insert(table: &mut Table, path: &[&str], value: Value) -> Result<(), String> {
    match path {
        [] | [""] => Err("names no setting".to_owned()),
        [key] => {
            table.insert((*key).to_owned(), value);
            Ok(())
        }
        [section, rest @ ..] => table
            .entry((*section).to_owned())
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("{section} is not a section"))
            .and_then(|inner| insert(inner, rest, value)),
    }
}

/// Deserialises as often as it takes: serde stops at the first mistake, so each one is noted,
/// taken out, and the rest is tried again.
fn deserialize_all(
    table: Table,
    origin: &dyn Fn(&str) -> Source,
    mistakes: &mut Vec<Mistake>,
) -> Config {
    let mut root = Value::Table(table);
    while mistakes.len() < MOST_MISTAKES {
        let error = match serde_path_to_error::deserialize::<_, Config>(root.clone()) {
            Ok(config) => return config,
            Err(error) => error,
        };
        let message = error.inner().to_string().trim_end().replace('\n', " ");
        let mut path: Vec<Step> = error.path().iter().filter_map(Step::of).collect();
        if let Some(field) = unknown_field(&message)
            && path.last() != Some(&Step::Key(field.clone()))
        {
            path.push(Step::Key(field));
        }
        let key = path.iter().map(Step::to_string).collect::<Vec<_>>();
        let key = key.join(".");
        mistakes.push(Mistake {
            source: origin(&key),
            key,
            message,
        });
        if !remove(&mut root, &path) {
            break;
        }
    }
    Config::default()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn of(segment: &Segment) -> Option<Self> {
        match segment {
            Segment::Map { key } => Some(Self::Key(key.clone())),
            Segment::Seq { index } => Some(Self::Index(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

fn unknown_field(message: &str) -> Option<String> {
    let rest = message.split_once("unknown field `")?.1;
    Some(rest.split_once('`')?.0.to_owned())
}

/// Takes a value out of the tree; where it is not there (a missing field), the thing that lacks
/// it goes. False where nothing is left to remove.
fn remove(root: &mut Value, path: &[Step]) -> bool {
    let Some((last, parents)) = path.split_last() else {
        return false;
    };
    let mut at = &mut *root;
    for step in parents {
        let next = match (step, at) {
            (Step::Key(key), Value::Table(table)) => table.get_mut(key),
            (Step::Index(index), Value::Array(array)) => array.get_mut(*index),
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return remove(root, parents),
        }
    }
    let removed = match (last, at) {
        (Step::Key(key), Value::Table(table)) => table.remove(key).is_some(),
        (Step::Index(index), Value::Array(array)) if *index < array.len() => {
            array.remove(*index);
            true
        }
        _ => false,
    };
    removed || remove(root, parents)
}
