//! Telephone numbers, and which of them may be called: a trunk's allow-list, with emergency and premium-rate numbers
//! closed unless a pattern names them outright.

use std::fmt;
use std::str::FromStr;

/// Emergency numbers of the world, and short codes that answer like them.
const EMERGENCY: &[&str] = &[
    "000", "08", "100", "101", "102", "103", "106", "108", "110", "111", "112", "113", "114",
    "115", "116", "117", "118", "119", "120", "122", "123", "15", "17", "18", "190", "191", "192",
    "193", "194", "195", "197", "198", "199", "911", "912", "933", "988", "991", "992", "993",
    "994", "995", "996", "997", "998", "999",
];

/// What people dial first to get an outside line.
const OUTSIDE_LINE: &[char] = &['0', '9'];

/// Premium-rate and satellite prefixes with the country code.
const PREMIUM: &[&str] = &[
    "+1900", "+1976", "+31900", "+31906", "+31909", "+32900", "+32901", "+32902", "+32903",
    "+32904", "+32905", "+32906", "+32907", "+32909", "+3389", "+34803", "+34806", "+34807",
    "+34905", "+35160", "+35176", "+35315", "+358600", "+358700", "+39892", "+39895", "+39899",
    "+41900", "+41901", "+41906", "+43900", "+43901", "+43930", "+43931", "+43939", "+4470",
    "+4487", "+449", "+4590", "+46900", "+46939", "+46944", "+4782", "+4870", "+49137", "+49190",
    "+49900", "+61190", "+870", "+878", "+881", "+882", "+883", "+979",
];

/// The same as dialled inside a country.
const PREMIUM_NATIONAL: &[&str] = &[
    "0137", "0190", "0891", "0892", "0897", "0898", "0899", "0900", "0901", "0906", "0909", "1900",
    "1976", "900", "976",
];

/// National numbers shorter than this are extensions rather than premium-rate numbers.
const SHORTEST_PREMIUM: usize = 7;

/// The longest number: 15 digits (E.164), a prefix and some to spare.
const LONGEST: usize = 24;

/// A number as it is dialled: digits, perhaps a plus before them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(String);

impl Number {
    /// The number as it goes on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn digits(&self) -> &str {
        self.0.trim_start_matches('+')
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Number {
    type Err = NotDialled;

    /// Takes what people write: spaces, dots, dashes, slashes and brackets go, and a leading `00`
    /// or `011` becomes the plus that it stands for.
    fn from_str(text: &str) -> Result<Self, NotDialled> {
        let mut digits = String::new();
        let mut plus = false;
        for (at, letter) in text.trim().chars().enumerate() {
            match letter {
                '0'..='9' | '*' | '#' => digits.push(letter),
                '+' if at == 0 => plus = true,
                ' ' | '.' | '-' | '/' | '(' | ')' => {}
                _ => return Err(NotDialled::NoNumber),
            }
        }
        if !plus && digits.len() > SHORTEST_PREMIUM {
            let international = ["011", "00"];
            let found = international
                .iter()
                .find_map(|prefix| digits.strip_prefix(prefix));
            if let Some(rest) = found {
                (digits, plus) = (rest.to_owned(), true);
            }
        }
        if digits.is_empty() || digits.len() > LONGEST {
            return Err(NotDialled::NoNumber);
        }
        Ok(Self(if plus { format!("+{digits}") } else { digits }))
    }
}

/// Numbers that may be called: one, or all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    fixed: String,
    open: bool,
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (fixed, open) = match text.strip_suffix('*') {
            Some(fixed) => (fixed, true),
            None => (text, false),
        };
        let digits = fixed.strip_prefix('+').unwrap_or(fixed);
        let known = digits.chars().all(|letter| letter.is_ascii_digit());
        if !known || (fixed.is_empty() && !open) {
            return Err(format!(
                "{text:?} is not a number like \"+4930123456\", or the beginning of one with a * \
                 like \"+49*\""
            ));
        }
        Ok(Self {
            fixed: fixed.to_owned(),
            open,
        })
    }
}

impl Pattern {
    fn covers(&self, number: &Number) -> bool {
        match self.open {
            true => number.0.starts_with(&self.fixed),
            false => number.0 == self.fixed,
        }
    }
}

/// Why a number is not called. The caller's or the operator's to mend; retrying does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDialled {
    /// It is no number.
    #[error("that is no telephone number")]
    NoNumber,
    /// An emergency number.
    #[error("emergency numbers are not called unless the trunk's destinations name the number")]
    Emergency,
    /// A premium-rate number.
    #[error(
        "premium-rate numbers are not called unless the trunk's destinations name their prefix"
    )]
    Premium,
    /// Outside the trunk's list.
    #[error("the trunk's destinations do not allow that number")]
    NotAllowed,
}

/// Whether a trunk with these destinations may call the number.
///
/// # Errors
/// Why it may not.
pub fn permit(number: &Number, destinations: &[Pattern]) -> Result<(), NotDialled> {
    let covering = || destinations.iter().filter(|pattern| pattern.covers(number));
    if is_emergency(number) {
        let named = covering().any(|pattern| !pattern.open);
        return named.then_some(()).ok_or(NotDialled::Emergency);
    }
    if let Some(prefix) = premium_prefix(number) {
        let named = covering().any(|pattern| pattern.fixed.len() >= prefix.len());
        return named.then_some(()).ok_or(NotDialled::Premium);
    }
    match covering().next() {
        Some(_) => Ok(()),
        None => Err(NotDialled::NotAllowed),
    }
}

/// Whether a number that the configuration itself names may be called: any but an emergency or
/// premium-rate one, unless the trunk's destinations name it.
///
/// # Errors
/// Why it may not.
pub fn permit_named(number: &Number, destinations: &[Pattern]) -> Result<(), NotDialled> {
    match permit(number, destinations) {
        Err(NotDialled::NotAllowed) => Ok(()),
        decided => decided,
    }
}

fn is_emergency(number: &Number) -> bool {
    let digits = number.digits();
    let known = |digits: &str| EMERGENCY.contains(&digits);
    if known(digits) {
        return true;
    }
    // With a country code before it, or what gets an outside line.
    let international = number.0.starts_with('+') && digits.len() <= 6;
    let outside = digits.len() == 4 && digits.starts_with(OUTSIDE_LINE);
    let most = if international {
        3
    } else {
        usize::from(outside)
    };
    (1..=most).any(|skip| {
        let rest = digits.get(skip..).unwrap_or_default();
        rest.len() == 3 && known(rest)
    })
}

fn premium_prefix(number: &Number) -> Option<&'static str> {
    let national = !number.0.starts_with('+') && number.0.len() >= SHORTEST_PREMIUM;
    let inside = PREMIUM_NATIONAL.iter().filter(|_| national);
    let mut all = PREMIUM.iter().chain(inside);
    all.find(|prefix| number.0.starts_with(**prefix)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(number: &str, destinations: &[&str]) -> Result<(), NotDialled> {
        let destinations: Vec<Pattern> = destinations
            .iter()
            .map(|pattern| pattern.parse().expect("a pattern"))
            .collect();
        permit(&number.parse()?, &destinations)
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Number>().map(|number| number.to_string());
        assert_eq!(read("+49 (30) 123-456"), Ok("+4930123456".to_owned()));
        assert_eq!(read("0049 30 123456"), Ok("+4930123456".to_owned()));
        assert_eq!(read("011 44 20 7946 0000"), Ok("+442079460000".to_owned()));
        assert_eq!(read("200"), Ok("200".to_owned()));
        for wrong in ["", "+", "alice", "12;ext=3", "1+2", &"1".repeat(30)] {
            assert_eq!(read(wrong), Err(NotDialled::NoNumber), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_is_called_that_no_pattern_covers() {
        assert_eq!(asked("+4930123456", &[]), Err(NotDialled::NotAllowed));
        assert_eq!(asked("+4930123456", &["+1*"]), Err(NotDialled::NotAllowed));
        assert_eq!(asked("+4930123456", &["+1*", "+49*"]), Ok(()));
        assert_eq!(asked("+4930123456", &["*"]), Ok(()));
        assert_eq!(asked("200", &["200"]), Ok(()));
        assert_eq!(asked("2001", &["200"]), Err(NotDialled::NotAllowed));
    }

    #[test]
    fn emergency_numbers_are_called_only_where_they_are_named() {
        for number in [
            "112", "911", "999", "000", "+1911", "+49112", "+44999", "9911", "0112",
        ] {
            assert_eq!(
                asked(number, &["*", "+*"]),
                Err(NotDialled::Emergency),
                "{number}"
            );
        }
        assert_eq!(asked("112", &["112"]), Ok(()));
        assert_eq!(asked("1100", &["1*"]), Ok(()), "an extension");
    }

    #[test]
    fn premium_numbers_are_called_only_where_their_prefix_is_named() {
        let numbers = [
            "+19005551234",
            "+19765551234",
            "0900 123456",
            "+44 909 8790000",
            "+49 900 1234567",
            "+8816 1234 5678",
        ];
        for number in numbers {
            assert_eq!(
                asked(number, &["*", "+*", "+4*"]),
                Err(NotDialled::Premium),
                "{number}"
            );
        }
        assert_eq!(asked("+499001234567", &["+49900*"]), Ok(()));
        assert_eq!(asked("+499001234567", &["+499001234567"]), Ok(()));
        assert_eq!(asked("9001", &["9*"]), Ok(()), "an extension");
    }

    #[test]
    fn what_the_configuration_names_needs_no_pattern_but_is_guarded_all_the_same() {
        let permitted = |number: &str| permit_named(&number.parse()?, &[]);
        assert_eq!(permitted("+4930123456"), Ok(()));
        assert_eq!(permitted("112"), Err(NotDialled::Emergency));
        assert_eq!(permitted("+19005551234"), Err(NotDialled::Premium));
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_in_words() {
        for wrong in ["", "1*2", "abc*", "+1 *"] {
            let error = wrong.parse::<Pattern>().expect_err(wrong);
            assert!(error.contains("+49*"), "{error}");
        }
    }
}
