//! Assistants that differ in a few settings, so that one run compares them.

use offhook::conversation::settings::AssistantSettings;
use toml::{Table, Value};

use crate::Result;

/// The policy's main knob, where `--knob` names no other: every wait of these, in seconds, by one
/// factor, with the most that each may be.
const WAITS: [(&str, f64); 4] = [
    ("startSpeakingPlan.waitSeconds", 5.0),
    (
        "startSpeakingPlan.transcriptionEndpointingPlan.onPunctuationSeconds",
        3.0,
    ),
    (
        "startSpeakingPlan.transcriptionEndpointingPlan.onNoPunctuationSeconds",
        3.0,
    ),
    (
        "startSpeakingPlan.transcriptionEndpointingPlan.onNumberSeconds",
        3.0,
    ),
];

/// An assistant under test.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    /// For people.
    pub(crate) name: String,
    /// What it is called by.
    pub(crate) user: String,
    pub(crate) settings: Table,
}

impl Variant {
    /// The assistant with other settings, dotted.
    pub(crate) fn new(name: &str, base: &Table, changes: &[(&str, Value)]) -> Self {
        let mut settings = base.clone();
        for (path, value) in changes {
            set(&mut settings, path, value.clone());
        }
        let user = name.chars().map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
            _ => '-',
        });
        Self {
            name: name.to_owned(),
            user: user.collect(),
            settings,
        }
    }

    /// Each thing switched off that the server has, and all of them.
    ///
    /// # Errors
    /// Where the defaults cannot be written down.
    pub(crate) fn without(base: &Table) -> Result<Vec<Self>> {
        let known = Table::try_from(AssistantSettings::default())?;
        let off: Vec<(&str, &str, Value)> = [
            (
                "no speculation",
                "speculationPlan.enabled",
                Value::from(false),
            ),
            (
                "no partials",
                "speculationPlan.partialSeconds",
                Value::from(0),
            ),
            (
                "no smart turn",
                "startSpeakingPlan.smartEndpointingEnabled",
                Value::from(false),
            ),
        ]
        .into_iter()
        .filter(|(_, path, _)| get(&known, path).is_some())
        .collect();
        let mut variants: Vec<Self> = off
            .iter()
            .map(|(name, path, value)| Self::new(name, base, &[(path, value.clone())]))
            .collect();
        let all: Vec<(&str, Value)> = off
            .into_iter()
            .map(|(_, path, value)| (path, value))
            .collect();
        variants.push(Self::new("none of them", base, &all));
        Ok(variants)
    }

    /// The assistant with its main knob at a value: a dotted setting, or a factor of all waits.
    ///
    /// # Errors
    /// Where the defaults cannot be written down.
    pub(crate) fn at_knob(base: &Table, knob: Option<&str>, value: f64) -> Result<Self> {
        if let Some(path) = knob {
            let name = format!("{path} {value}");
            return Ok(Self::new(&name, base, &[(path, value.into())]));
        }
        let defaults = Table::try_from(AssistantSettings::default())?;
        let changes = WAITS.map(|(path, most)| {
            let own = get(base, path).or_else(|| get(&defaults, path));
            let seconds = own.and_then(number).unwrap_or_default() * value;
            (path, Value::from(seconds.min(most)))
        });
        Ok(Self::new(&format!("waits x{value}"), base, &changes))
    }
}

fn number(value: &Value) -> Option<f64> {
    value
        .as_float()
        .or_else(|| value.as_integer().map(|whole| whole as f64))
}

fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((first, rest)) => get(table.get(first)?.as_table()?, rest),
        None => table.get(path),
    }
}

/// Sets a dotted key; what is in its way goes.
pub(crate) fn set(table: &mut Table, path: &str, value: Value) {
    let Some((first, rest)) = path.split_once('.') else {
        table.insert(path.to_owned(), value);
        return;
    };
    let inner = table.entry(first).or_insert_with(|| Table::new().into());
    if !inner.is_table() {
        *inner = Table::new().into();
    }
    if let Some(inner) = inner.as_table_mut() {
        set(inner, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_turns_every_wait_from_what_it_is_and_none_beyond_what_it_may_be() {
        let base: Table = "[startSpeakingPlan]\nwaitSeconds = 1"
            .parse()
            .expect("TOML");
        let doubled = Variant::at_knob(&base, None, 2.0).expect("a variant");
        assert_eq!(doubled.user, "waits-x2");
        let wait = |path| get(&doubled.settings, path).and_then(number);
        assert_eq!(wait("startSpeakingPlan.waitSeconds"), Some(2.0));
        let plan = "startSpeakingPlan.transcriptionEndpointingPlan";
        let unfinished = format!("{plan}.onNoPunctuationSeconds");
        assert_eq!(wait(&unfinished), Some(3.0));
    }

    #[test]
    fn what_is_switched_off_alone_is_switched_off_together_too() {
        let variants = Variant::without(&Table::new()).expect("variants");
        let none = variants.last().expect("none of them");
        for path in [
            "speculationPlan.enabled",
            "startSpeakingPlan.smartEndpointingEnabled",
        ] {
            let off = |variant: &Variant| get(&variant.settings, path) == Some(&Value::from(false));
            assert_eq!(variants.iter().filter(|variant| off(variant)).count(), 2);
            assert!(off(none), "{path}");
        }
    }

    #[test]
    fn a_named_knob_is_that_setting() {
        let variant = Variant::at_knob(&Table::new(), Some("a.b"), 0.5).expect("a variant");
        assert_eq!(get(&variant.settings, "a.b").and_then(number), Some(0.5));
    }
}
