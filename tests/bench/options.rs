//! The command line: `--name value` and `--switch`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Result;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    values: BTreeMap<String, Vec<String>>,
    switches: Vec<String>,
}

impl Options {
    /// Reads arguments; `valued` take a value and may be repeated, `switches` take none.
    pub(crate) fn parse(arguments: &[String], valued: &[&str], switches: &[&str]) -> Result<Self> {
        let mut options = Self {
            values: BTreeMap::new(),
            switches: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let name = argument
                .strip_prefix("--")
                .ok_or_else(|| format!("{argument:?} is no option"))?;
            if switches.contains(&name) {
                options.switches.push(name.to_owned());
                continue;
            }
            let (name, given) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            if !valued.contains(&name) {
                return Err(format!("there is no option --{name} here").into());
            }
            let value = given.or_else(|| arguments.next().cloned());
            let value = value.ok_or_else(|| format!("--{name} needs a value"))?;
            options
                .values
                .entry(name.to_owned())
                .or_default()
                .push(value);
        }
        Ok(options)
    }

    pub(crate) fn is_on(&self, switch: &str) -> bool {
        self.switches.iter().any(|on| on == switch)
    }

    /// Every value of an option, in order.
    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// The last value of an option.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(String::as_str)
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// A number, or what is taken where there is none.
    pub(crate) fn number<T: FromStr>(&self, name: &str, otherwise: T) -> Result<T> {
        match self.text(name) {
            None => Ok(otherwise),
            Some(text) => text
                .parse()
                .map_err(|_| format!("--{name}: {text:?} is no such number").into()),
        }
    }
}
