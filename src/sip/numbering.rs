//! How a peer writes telephone numbers, and E.164 with a plus, which is how everything else here
//! does.

use serde::Deserialize;

/// The longest number of E.164, without its plus.
const LONGEST: usize = 15;
/// Digits of the shortest number that is taken for an international one without a plus.
const SHORTEST: usize = 8;

/// How numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NumberFormat {
    /// `+15551234567`. What has no plus is no number but a name or an extension.
    #[default]
    E164,
    /// `15551234567`.
    E164WithoutPlus,
    /// As people dial inside a country: `030123456`, and `0044...` for others.
    National,
}

/// All there is to know about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NumberRules {
    /// How numbers are written.
    pub format: NumberFormat,
    /// The country of national numbers, without a plus: `1`, `49`.
    pub country_code: String,
    /// What people dial before a national number: `0` in most of Europe, nothing in the US.
    pub national_prefix: String,
    /// What people dial before a country code: `00`, `011`.
    pub international_prefix: String,
    /// What the peer puts before every number to tell its customers apart.
    pub tech_prefix: String,
}

impl NumberRules {
    /// The number that a user part of the peer's means, with a plus. `None` where it is a name or
    /// an extension.
    pub fn read(&self, user: &str) -> Option<String> {
        // RFC 3966: visual separators; and parameters such as `;ext=`, which some put there.
        let bare = user.split(';').next().unwrap_or_default();
        let digits: String = bare
            .chars()
            .filter(|letter| !matches!(letter, '-' | '.' | '(' | ')' | ' '))
            .collect();
        let digits = match self.tech_prefix.as_str() {
            "" => digits.as_str(),
            prefix => digits.strip_prefix(prefix).unwrap_or(&digits),
        };
        if let Some(international) = digits.strip_prefix('+') {
            return number(international);
        }
        match self.format {
            NumberFormat::E164 => None,
            NumberFormat::E164WithoutPlus if digits.len() >= SHORTEST => number(digits),
            NumberFormat::E164WithoutPlus => None,
            NumberFormat::National => self.read_national(digits),
        }
    }

    fn read_national(&self, digits: &str) -> Option<String> {
        let after = |prefix: &str| match prefix {
            "" => None,
            prefix => digits.strip_prefix(prefix),
        };
        if let Some(international) = after(&self.international_prefix) {
            return number(international);
        }
        let national = match after(&self.national_prefix) {
            Some(national) => national,
            None if self.national_prefix.is_empty() && digits.len() >= SHORTEST => digits,
            None => return None,
        };
        number(&format!("{}{national}", self.country_code))
    }

    /// A number with a plus as the peer writes it. Names and extensions stay as they are.
    pub fn write(&self, number: &str) -> String {
        let Some(digits) = number.strip_prefix('+') else {
            return number.to_owned();
        };
        match self.format {
            NumberFormat::E164 => number.to_owned(),
            NumberFormat::E164WithoutPlus => digits.to_owned(),
            NumberFormat::National => match digits.strip_prefix(&self.country_code) {
                Some(national) => format!("{}{national}", self.national_prefix),
                // Who dials nothing before a country code has to be told by the plus.
                None if self.international_prefix.is_empty() => number.to_owned(),
                None => format!("{}{digits}", self.international_prefix),
            },
        }
    }

    /// The same for a number to call: what tells the peer's customers apart comes first.
    pub fn dial(&self, number: &str) -> String {
        format!("{}{}", self.tech_prefix, self.write(number))
    }

    /// What is wrong with the rules, as key and message.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let parts = [
            ("country_code", &self.country_code),
            ("national_prefix", &self.national_prefix),
            ("international_prefix", &self.international_prefix),
        ];
        for (key, text) in parts {
            if !text.bytes().all(|byte| byte.is_ascii_digit()) {
                mistakes.push((key, format!("{text:?} is not digits only, like \"49\"")));
            }
        }
        let known = |letter: char| letter.is_ascii_digit() || matches!(letter, '*' | '#');
        if !self.tech_prefix.chars().all(known) {
            let text = &self.tech_prefix;
            mistakes.push(("tech_prefix", format!("{text:?} is not digits, * and #")));
        }
        if self.format == NumberFormat::National && self.country_code.is_empty() {
            let message =
                "is needed, because numbers are national: the country's code, like \"49\"";
            mistakes.push(("country_code", message.to_owned()));
        }
        mistakes
    }
}

fn number(digits: &str) -> Option<String> {
    let digits_only = digits.bytes().all(|byte| byte.is_ascii_digit());
    let plausible = digits_only && (1..=LONGEST).contains(&digits.len());
    (plausible && !digits.starts_with('0')).then(|| format!("+{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rules: &NumberRules, user: &str) -> Option<String> {
        rules.read(user)
    }

    fn germany() -> NumberRules {
        NumberRules {
            format: NumberFormat::National,
            country_code: "49".to_owned(),
            national_prefix: "0".to_owned(),
            international_prefix: "00".to_owned(),
            tech_prefix: String::new(),
        }
    }

    #[test]
    fn every_way_of_writing_a_number_is_read_as_e164() {
        let plus = NumberRules::default();
        assert_eq!(
            read(&plus, "+1 (555) 123-4567"),
            Some("+15551234567".to_owned())
        );
        assert_eq!(
            read(&plus, "+15551234567;ext=3"),
            Some("+15551234567".to_owned())
        );
        let bare = NumberRules {
            format: NumberFormat::E164WithoutPlus,
            ..NumberRules::default()
        };
        assert_eq!(read(&bare, "15551234567"), Some("+15551234567".to_owned()));
        assert_eq!(
            read(&germany(), "030123456"),
            Some("+4930123456".to_owned())
        );
        assert_eq!(
            read(&germany(), "0044207946000"),
            Some("+44207946000".to_owned())
        );
        let us = NumberRules {
            country_code: "1".to_owned(),
            national_prefix: String::new(),
            international_prefix: "011".to_owned(),
            ..germany()
        };
        assert_eq!(read(&us, "5551234567"), Some("+15551234567".to_owned()));
        assert_eq!(read(&us, "01144207946000"), Some("+44207946000".to_owned()));
        let marked = NumberRules {
            tech_prefix: "789#".to_owned(),
            ..NumberRules::default()
        };
        assert_eq!(
            read(&marked, "789#+4930123456"),
            Some("+4930123456".to_owned())
        );
        assert_eq!(read(&marked, "+4930123456"), Some("+4930123456".to_owned()));
    }

    #[test]
    fn a_number_is_written_as_it_would_be_read() {
        let bare = NumberRules {
            format: NumberFormat::E164WithoutPlus,
            tech_prefix: "789#".to_owned(),
            ..NumberRules::default()
        };
        assert_eq!(NumberRules::default().write("+15551234"), "+15551234");
        assert_eq!(bare.write("+15551234"), "15551234");
        assert_eq!(bare.dial("+15551234567"), "789#15551234567");
        assert_eq!(germany().dial("+4930123456"), "030123456");
        assert_eq!(germany().dial("+15551234567"), "0015551234567");
        for rules in [NumberRules::default(), bare, germany()] {
            for number in ["+4930123456", "+15551234567", "+442079460000"] {
                let read = rules.read(&rules.dial(number));
                assert_eq!(read.as_deref(), Some(number), "by {rules:?}");
            }
            assert_eq!(rules.write("200"), "200", "an extension");
        }
        let abroad = NumberRules {
            international_prefix: String::new(),
            ..germany()
        };
        assert_eq!(abroad.write("+15551234567"), "+15551234567");
    }

    #[test]
    fn names_and_extensions_are_no_numbers() {
        let bare = NumberRules {
            format: NumberFormat::E164WithoutPlus,
            ..NumberRules::default()
        };
        for rules in [NumberRules::default(), bare, germany()] {
            for user in [
                "",
                "+",
                "demo",
                "200",
                "+0123",
                "anonymous",
                "+49x",
                &"9".repeat(30),
            ] {
                assert_eq!(read(&rules, user), None, "{user:?} by {rules:?}");
            }
        }
    }

    #[test]
    fn rules_that_cannot_work_are_named() {
        let rules = NumberRules {
            format: NumberFormat::National,
            national_prefix: "x".to_owned(),
            tech_prefix: "ü".to_owned(),
            ..NumberRules::default()
        };
        let keys: Vec<&str> = rules.mistakes().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["national_prefix", "tech_prefix", "country_code"]);
        assert!(germany().mistakes().is_empty());
    }
}
