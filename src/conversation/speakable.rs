//! Writes a clause as it is to be said: numbers, times, money, telephone numbers, addresses and
//! abbreviations as English words. What is shown and remembered stays as the model wrote it.

mod digits;

use super::numbers;
use digits::{
    amount, clock, date, fraction, half_of_day, money, percent, range, spoken_number, telephone,
    time_of_day, time_with_half,
};

/// A word with what hugs it: `("$5.",` is `(`, `$5`, `.",`.
struct Token<'a> {
    before: &'a str,
    core: &'a str,
    after: &'a str,
}

impl<'a> Token<'a> {
    fn new(word: &'a str) -> Self {
        let opening = [
            '(', '[', '"', '\'', '\u{201C}', '\u{2018}', '\u{00BF}', '\u{00A1}',
        ];
        let closing = [
            ')', ']', '"', '\'', '\u{201D}', '\u{2019}', ',', ';', ':', '!', '?', '.', '\u{2026}',
        ];
        let opened = word.trim_start_matches(opening);
        // A telephone number may open with its area code in brackets.
        let opened = match opened.chars().next() {
            Some(letter) if letter.is_ascii_digit() && word.contains(')') => word,
            Some(_) | None => opened,
        };
        let core = opened.trim_end_matches(closing);
        // What ends with a dot and holds another is an abbreviation with its dot: "a.m.".
        Self {
            before: &word[..word.len() - opened.len()],
            core,
            after: &opened[core.len()..],
        }
    }
}

/// The clause in words. Languages other than English pass unchanged.
pub fn speakable(clause: &str, language: &str) -> String {
    if language != "en" {
        return clause.to_owned();
    }
    let words: Vec<&str> = clause.split_whitespace().collect();
    let mut spoken: Vec<String> = Vec::with_capacity(words.len());
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        let previous = at
            .checked_sub(1)
            .and_then(|before| words.get(before))
            .copied();
        let next = words.get(at + 1).copied();
        let (text, used) = say(word, previous, next, at + 2 < words.len());
        if !text.is_empty() {
            spoken.push(text);
        }
        at += used;
    }
    spoken.join(" ")
}

/// One word as said, and how many words that took. `more` is true where words follow `next`.
fn say(word: &str, previous: Option<&str>, next: Option<&str>, more: bool) -> (String, usize) {
    if let Some(said) = telephone_in_two(word, next) {
        return (said, 2);
    }
    let token = Token::new(word);
    if let Some((said, used, after)) = with_next(&token, next, more) {
        return (format!("{}{said}{after}", token.before), used);
    }
    let said = abbreviation(&token, previous, next)
        .or_else(|| address(token.core))
        .or_else(|| number(token.core, previous))
        .or_else(|| symbol(token.core));
    match said {
        Some(said) => (format!("{}{said}{}", token.before, kept(&token, next)), 1),
        None => (word.to_owned(), 1),
    }
}

/// What follows the word and is still heard: an abbreviation's dot is not, unless it ends the
/// clause.
fn kept<'a>(token: &Token<'a>, next: Option<&str>) -> &'a str {
    match token.after.strip_prefix('.') {
        Some(rest) if next.is_some() && is_dotted(token.core) => rest,
        Some(_) | None => token.after,
    }
}

fn is_dotted(core: &str) -> bool {
    DOTTED
        .iter()
        .any(|(short, _)| core.eq_ignore_ascii_case(short))
        || TITLES.iter().any(|(short, _)| *short == core)
        || matches!(core, "St" | "No" | "Nos")
}

/// "(555) 123-4567".
fn telephone_in_two(word: &str, next: Option<&str>) -> Option<String> {
    let area = word.strip_prefix('(')?.strip_suffix(')')?;
    let token = Token::new(next?);
    let joined = format!("{area}-{}", token.core);
    Some(format!("{}{}", telephone(&joined)?, token.after))
}

/// Words that mean something only together: "10 a.m.", "$5 million", "5 km".
fn with_next<'a>(
    token: &Token<'_>,
    next: Option<&'a str>,
    more: bool,
) -> Option<(String, usize, &'a str)> {
    if !token.after.is_empty() {
        return None;
    }
    let next = Token::new(next?);
    let lower = next.core.to_lowercase();
    if let Some(half) = half_of_day(&lower) {
        let clock = clock(token.core)?;
        // The dot of "a.m." is heard only where it ends the clause too.
        let after = match next.after.strip_prefix('.') {
            Some(rest) if lower.contains('.') && (more || !rest.is_empty()) => rest,
            Some(_) | None => next.after,
        };
        return Some((format!("{clock} {half}"), 2, after));
    }
    if matches!(
        lower.as_str(),
        "thousand" | "million" | "billion" | "trillion"
    ) {
        let (number, unit) = amount(token.core)?;
        return Some((format!("{number} {lower} {unit}"), 2, next.after));
    }
    let unit = unit(next.core)?;
    Some((
        format!("{} {unit}", numbers::decimal(token.core)?),
        2,
        next.after,
    ))
}

/// Before a name.
const TITLES: &[(&str, &str)] = &[
    ("Dr", "Doctor"),
    ("Mr", "Mister"),
    ("Mrs", "Missus"),
    ("Ms", "Miz"),
    ("Prof", "Professor"),
    ("Gen", "General"),
    ("Sen", "Senator"),
    ("Rep", "Representative"),
    ("Gov", "Governor"),
    ("Capt", "Captain"),
    ("Lt", "Lieutenant"),
    ("Col", "Colonel"),
    ("Sgt", "Sergeant"),
    ("Rev", "Reverend"),
    ("Mt", "Mount"),
    ("Ft", "Fort"),
];
/// With a dot after them.
const DOTTED: &[(&str, &str)] = &[
    ("e.g", "for example"),
    ("i.e", "that is"),
    ("etc", "et cetera"),
    ("vs", "versus"),
    ("approx", "approximately"),
    ("a.m", "A M"),
    ("p.m", "P M"),
    ("ave", "Avenue"),
    ("blvd", "Boulevard"),
    ("rd", "Road"),
    ("apt", "Apartment"),
    ("ext", "extension"),
    ("dept", "department"),
    ("inc", "Incorporated"),
    ("ltd", "Limited"),
    ("corp", "Corporation"),
    ("jr", "Junior"),
    ("sr", "Senior"),
    ("mon", "Monday"),
    ("tue", "Tuesday"),
    ("tues", "Tuesday"),
    ("wed", "Wednesday"),
    ("thu", "Thursday"),
    ("thurs", "Thursday"),
    ("fri", "Friday"),
    ("jan", "January"),
    ("feb", "February"),
    ("aug", "August"),
    ("sept", "September"),
    ("oct", "October"),
    ("nov", "November"),
    ("dec", "December"),
];

fn abbreviation(token: &Token<'_>, previous: Option<&str>, next: Option<&str>) -> Option<String> {
    if !token.after.starts_with('.') {
        return None;
    }
    let capital_next = next.is_some_and(|next| next.starts_with(char::is_uppercase));
    let digit_next = next.is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit()));
    match token.core {
        "St" => {
            // "123 Main St. Then" is rarer inside one clause than "near St. Mary".
            let after_name = previous.is_some_and(|word| word.starts_with(char::is_uppercase));
            return Some(
                if capital_next && !after_name {
                    "Saint"
                } else {
                    "Street"
                }
                .to_owned(),
            );
        }
        "No" | "no" if digit_next => return Some("number".to_owned()),
        "Nos" if digit_next => return Some("numbers".to_owned()),
        _ => {}
    }
    if capital_next && let Some((_, said)) = TITLES.iter().find(|(short, _)| *short == token.core) {
        return Some((*said).to_owned());
    }
    let found = DOTTED
        .iter()
        .find(|(short, _)| token.core.eq_ignore_ascii_case(short));
    found.map(|(_, said)| (*said).to_owned())
}

/// E-mail and web addresses, letter signs said.
fn address(core: &str) -> Option<String> {
    let bare = core
        .strip_prefix("https://")
        .or_else(|| core.strip_prefix("http://"));
    let text = bare.unwrap_or(core).trim_end_matches('/');
    let host = text.split(['/', '?', ':']).next()?;
    let domain = host.rsplit('@').next()?;
    let (_, top) = domain.rsplit_once('.')?;
    let known = [
        "com", "org", "net", "edu", "gov", "io", "ai", "co", "uk", "de", "eu", "us", "info", "dev",
        "app",
    ];
    let is_mail = host.split('@').count() == 2 && !host.starts_with('@');
    let alphabetic = top.len() >= 2 && top.chars().all(|letter| letter.is_ascii_alphabetic());
    let is_web = bare.is_some() || host.starts_with("www.") || known.contains(&top);
    if !alphabetic || !(is_mail || is_web) {
        return None;
    }
    let mut said = String::new();
    for letter in text.chars() {
        match letter {
            '@' => said.push_str(" at "),
            '.' => said.push_str(" dot "),
            '/' => said.push_str(" slash "),
            '-' => said.push_str(" dash "),
            '_' => said.push_str(" underscore "),
            other => said.push(other),
        }
    }
    let words: Vec<&str> = said
        .split_whitespace()
        .map(|word| if word == "www" { "W W W" } else { word })
        .collect();
    Some(words.join(" "))
}

fn number(core: &str, previous: Option<&str>) -> Option<String> {
    if !core.contains(|letter: char| letter.is_ascii_digit()) {
        return None;
    }
    if let Some(rest) = core.strip_prefix('#') {
        return Some(format!("number {}", spoken_number(rest, previous)?));
    }
    money(core)
        .or_else(|| percent(core))
        .or_else(|| time_of_day(core, false))
        .or_else(|| time_with_half(core))
        .or_else(|| date(core))
        .or_else(|| telephone(core))
        .or_else(|| range(core))
        .or_else(|| fraction(core))
        .or_else(|| spoken_number(core, previous))
        .or_else(|| with_unit(core))
}

/// "5km", "-3", "72°F", "+5".
fn with_unit(core: &str) -> Option<String> {
    let (sign, rest) = match core.chars().next()? {
        '-' | '\u{2212}' => ("minus ", core.trim_start_matches(['-', '\u{2212}'])),
        '+' => ("plus ", core.trim_start_matches('+')),
        _ => ("", core),
    };
    let split = rest
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ','))
        .unwrap_or(rest.len());
    let (digits, name) = rest.split_at(split);
    let said = numbers::decimal(digits)?;
    if let Some(name) = name.strip_prefix('\u{00B0}') {
        let scale = match name {
            "F" | "f" => " Fahrenheit",
            "C" | "c" => " Celsius",
            "" => "",
            _ => return None,
        };
        return Some(format!("{sign}{said} degrees{scale}"));
    }
    match name {
        "" if !sign.is_empty() => Some(format!("{sign}{said}")),
        "" => None,
        name => Some(format!("{sign}{said} {}", unit(name)?)),
    }
}

fn unit(name: &str) -> Option<&'static str> {
    Some(match name {
        "km" => "kilometers",
        "m" => "meters",
        "cm" => "centimeters",
        "mm" => "millimeters",
        "kg" => "kilograms",
        "g" => "grams",
        "mg" => "milligrams",
        "lb" | "lbs" => "pounds",
        "oz" => "ounces",
        "ft" => "feet",
        "mi" => "miles",
        "mph" => "miles per hour",
        "km/h" => "kilometers per hour",
        "GB" => "gigabytes",
        "MB" => "megabytes",
        "kHz" => "kilohertz",
        "Hz" => "hertz",
        "hr" | "hrs" => "hours",
        "min" | "mins" => "minutes",
        "sec" | "secs" => "seconds",
        "ms" => "milliseconds",
        "\u{00B0}F" => "degrees Fahrenheit",
        "\u{00B0}C" => "degrees Celsius",
        _ => return None,
    })
}

fn symbol(core: &str) -> Option<String> {
    let said = match core {
        "&" => "and",
        "+" => "plus",
        "=" => "equals",
        "@" => "at",
        "%" => "percent",
        "w/" => "with",
        "w/o" => "without",
        "-" | "\u{2013}" | "\u{2014}" => ",",
        "/" => "or",
        _ => return None,
    };
    Some(said.to_owned())
}

#[cfg(test)]
mod tests;
