//! The many ways to write digits.

use super::super::numbers;

/// After these words a number is a name: its digits are said one by one.
const NAMED_BY_DIGITS: &[&str] = &[
    "number",
    "order",
    "code",
    "pin",
    "extension",
    "ext",
    "room",
    "flight",
    "account",
    "reference",
    "confirmation",
    "ticket",
    "zip",
    "zipcode",
    "case",
    "id",
    "press",
    "dial",
    "at",
];

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// "10:30", "9:00", "14:05". With `half` an "A M" follows, so that the full hour needs no
/// "o'clock".
pub(super) fn time_of_day(core: &str, half: bool) -> Option<String> {
    let (hour, minute) = core.split_once(':')?;
    let well_formed = (1..=2).contains(&hour.len()) && minute.len() == 2;
    if !well_formed || !all_digits(hour) || !all_digits(minute) {
        return None;
    }
    let (hour, minute): (u64, u64) = (hour.parse().ok()?, minute.parse().ok()?);
    if hour > 24 || minute > 59 {
        return None;
    }
    let said = numbers::cardinal(hour);
    Some(match minute {
        0 if half => said,
        0 if (1..=12).contains(&hour) => format!("{said} o'clock"),
        0 => format!("{said} hundred"),
        1..=9 => format!("{said} oh {}", numbers::cardinal(minute)),
        _ => format!("{said} {}", numbers::cardinal(minute)),
    })
}

/// "am" and "p.m".
pub(super) fn half_of_day(lower: &str) -> Option<&'static str> {
    match lower {
        "a.m" | "am" => Some("A M"),
        "p.m" | "pm" => Some("P M"),
        _ => None,
    }
}

/// "10:30am", "9pm".
pub(super) fn time_with_half(core: &str) -> Option<String> {
    let lower = core.to_lowercase();
    let split = lower.find(|letter: char| letter.is_ascii_alphabetic())?;
    let half = half_of_day(&lower[split..])?;
    Some(format!("{} {half}", clock(&lower[..split])?))
}

/// "10:30" or "9", before "A M".
pub(super) fn clock(core: &str) -> Option<String> {
    time_of_day(core, true).or_else(|| {
        let hour = numbers::whole(core).filter(|hour| (1..=12).contains(hour))?;
        Some(numbers::cardinal(hour))
    })
}

/// The number and its unit, in the plural: "$5" is "five" and "dollars".
pub(super) fn amount(core: &str) -> Option<(String, &'static str)> {
    let (unit, rest) = match core.chars().next()? {
        '$' => ("dollars", &core[1..]),
        '\u{20AC}' => ("euros", core.trim_start_matches('\u{20AC}')),
        '\u{00A3}' => ("pounds", core.trim_start_matches('\u{00A3}')),
        _ => ("", core),
    };
    Some((numbers::decimal(rest)?, unit))
}

/// "$4.99", "€20", "£1,000", "$5k".
pub(super) fn money(core: &str) -> Option<String> {
    let sign = core.chars().next()?;
    let (one, many, cent, cents) = match sign {
        '$' => ("dollar", "dollars", "cent", "cents"),
        '\u{20AC}' => ("euro", "euros", "cent", "cents"),
        '\u{00A3}' => ("pound", "pounds", "penny", "pence"),
        _ => return None,
    };
    let rest = &core[sign.len_utf8()..];
    for (suffix, scale) in [
        ("k", "thousand"),
        ("K", "thousand"),
        ("M", "million"),
        ("bn", "billion"),
    ] {
        if let Some(number) = rest.strip_suffix(suffix) {
            return Some(format!("{} {scale} {many}", numbers::decimal(number)?));
        }
    }
    let (whole, fraction) = match rest.split_once('.') {
        Some((whole, fraction)) if fraction.len() == 2 && all_digits(fraction) => (whole, fraction),
        Some(_) => return Some(format!("{} {many}", numbers::decimal(rest)?)),
        None => (rest, "00"),
    };
    let whole = if whole.is_empty() {
        0
    } else {
        numbers::whole(whole)?
    };
    let fraction: u64 = fraction.parse().ok()?;
    let wholes = format!(
        "{} {}",
        numbers::cardinal(whole),
        if whole == 1 { one } else { many }
    );
    let parts = format!(
        "{} {}",
        numbers::cardinal(fraction),
        if fraction == 1 { cent } else { cents }
    );
    Some(match (whole, fraction) {
        (_, 0) => wholes,
        (0, _) => parts,
        _ => format!("{wholes} and {parts}"),
    })
}

/// "50%", "3.5%".
pub(super) fn percent(core: &str) -> Option<String> {
    Some(format!(
        "{} percent",
        numbers::decimal(core.strip_suffix('%')?)?
    ))
}

/// "2026-05-06" and "5/6/2026".
pub(super) fn date(core: &str) -> Option<String> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let separator = if core.contains('-') { '-' } else { '/' };
    let mut parts = core.split(separator);
    let (first, second, third) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || ![first, second, third].into_iter().all(all_digits) {
        return None;
    }
    let (year, month, day) = match separator {
        '-' => (first, second, third),
        _ => (third, first, second),
    };
    if year.len() != 4 || month.len() > 2 || day.len() > 2 {
        return None;
    }
    let month = MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?)?;
    let day: u64 = day.parse().ok().filter(|day| (1..=31).contains(day))?;
    Some(format!(
        "{month} {}, {}",
        numbers::ordinal(day),
        numbers::year(year.parse().ok()?)
    ))
}

/// "555-123-4567", "+1-555-123-4567", "555.123.4567", "555-1234": digit by digit, in groups.
pub(super) fn telephone(core: &str) -> Option<String> {
    let international = core.starts_with('+');
    let rest = core.trim_start_matches('+');
    let allowed = |letter: char| letter.is_ascii_digit() || matches!(letter, '-' | '.' | '(' | ')');
    let digits = rest.chars().filter(char::is_ascii_digit).count();
    let groups: Vec<&str> = rest
        .split(|letter: char| !letter.is_ascii_digit())
        .filter(|group| !group.is_empty())
        .collect();
    let plausible = rest.chars().all(allowed) && (7..=15).contains(&digits);
    // Two groups are a number without area code, or else a range.
    let grouped = match groups.as_slice() {
        [_] => international,
        [first, second] => first.len() == 3 && second.len() == 4 && rest.contains('-'),
        [..] => groups.iter().all(|group| group.len() <= 5),
    };
    if !plausible || !grouped {
        return None;
    }
    let said: Vec<String> = groups
        .iter()
        .map(|group| numbers::digits(group, true))
        .collect();
    let plus = if international { "plus " } else { "" };
    Some(format!("{plus}{}", said.join(", ")))
}

/// "9-5", "10–12", "9:00-17:30".
pub(super) fn range(core: &str) -> Option<String> {
    let (from, to) = core.split_once(['-', '\u{2013}'])?;
    let end = |text: &str| match time_of_day(text, true).or_else(|| time_with_half(text)) {
        Some(time) => Some(time),
        None if text.len() <= 4 => numbers::decimal(text),
        None => None,
    };
    Some(format!("{} to {}", end(from)?, end(to)?))
}

/// "1/2", "24/7", "3/4".
pub(super) fn fraction(core: &str) -> Option<String> {
    Some(
        match core {
            "1/2" => "one half",
            "1/3" => "one third",
            "2/3" => "two thirds",
            "1/4" => "one quarter",
            "3/4" => "three quarters",
            "24/7" => "twenty four seven",
            _ => return None,
        }
        .to_owned(),
    )
}

/// "1st", "3.5", "1,234", "1999", and digits that are a name.
pub(super) fn spoken_number(core: &str, previous: Option<&str>) -> Option<String> {
    for ending in ["st", "nd", "rd", "th"] {
        if let Some(digits) = core.strip_suffix(ending) {
            return numbers::whole(digits).map(numbers::ordinal);
        }
    }
    if !all_digits(core) {
        return numbers::decimal(core);
    }
    let previous = previous.map(|word| {
        word.trim_matches(|letter: char| !letter.is_alphanumeric())
            .to_lowercase()
    });
    let named = previous.is_some_and(|word| NAMED_BY_DIGITS.contains(&word.as_str()));
    if core.len() >= 5 || (core.len() > 1 && core.starts_with('0')) || (named && core.len() >= 3) {
        return Some(numbers::digits(core, false));
    }
    let number: u64 = core.parse().ok()?;
    Some(match number {
        1900..=2099 => numbers::year(number),
        _ => numbers::cardinal(number),
    })
}
