//! English words for numbers, as they are said on the telephone.

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
const SCALES: [(u64, &str); 4] = [
    (1_000_000_000_000, "trillion"),
    (1_000_000_000, "billion"),
    (1_000_000, "million"),
    (1_000, "thousand"),
];

/// `1234` is "one thousand two hundred thirty four".
pub(super) fn cardinal(number: u64) -> String {
    let mut words = Vec::new();
    push_cardinal(number, &mut words);
    words.join(" ")
}

fn push_cardinal(number: u64, words: &mut Vec<&'static str>) {
    for (scale, name) in SCALES {
        if number >= scale {
            push_cardinal(number / scale, words);
            words.push(name);
            if !number.is_multiple_of(scale) {
                push_cardinal(number % scale, words);
            }
            return;
        }
    }
    // Below 1000 every index is within its table.
    let number = number as usize;
    if number >= 100 {
        words.extend([SMALL[number / 100], "hundred"]);
        if !number.is_multiple_of(100) {
            push_cardinal(number as u64 % 100, words);
        }
    } else if number >= 20 {
        words.push(TENS[number / 10]);
        if !number.is_multiple_of(10) {
            words.push(SMALL[number % 10]);
        }
    } else {
        words.push(SMALL[number]);
    }
}

/// `23` is "twenty third".
pub(super) fn ordinal(number: u64) -> String {
    let words = cardinal(number);
    let (start, last) = match words.rsplit_once(' ') {
        Some((start, last)) => (format!("{start} "), last),
        None => (String::new(), words.as_str()),
    };
    let last = match last {
        "one" => "first".to_owned(),
        "two" => "second".to_owned(),
        "three" => "third".to_owned(),
        "five" => "fifth".to_owned(),
        "eight" => "eighth".to_owned(),
        "nine" => "ninth".to_owned(),
        "twelve" => "twelfth".to_owned(),
        other => match other.strip_suffix('y') {
            Some(stem) => format!("{stem}ieth"),
            None => format!("{other}th"),
        },
    };
    format!("{start}{last}")
}

/// "105" is "one oh five" where `oh`, else "one zero five". What is no digit is left out.
pub(super) fn digits(text: &str, oh: bool) -> String {
    let words: Vec<&str> = text
        .chars()
        .filter_map(|digit| digit.to_digit(10))
        .map(|digit| {
            if oh && digit == 0 {
                "oh"
            } else {
                SMALL[digit as usize]
            }
        })
        .collect();
    words.join(" ")
}

/// `1999` is "nineteen ninety nine", `2005` is "two thousand five". For 1000 to 2999.
pub(super) fn year(year: u64) -> String {
    let (century, rest) = (year / 100, year % 100);
    match rest {
        _ if century.is_multiple_of(10) && rest < 10 => cardinal(year),
        0 => format!("{} hundred", cardinal(century)),
        1..=9 => format!("{} oh {}", cardinal(century), cardinal(rest)),
        _ => format!("{} {}", cardinal(century), cardinal(rest)),
    }
}

/// "1,234.50" is "one thousand two hundred thirty four point five zero". `None` where the text is
/// no number: digits, grouping commas, at most one point with digits on both sides.
pub(super) fn decimal(text: &str) -> Option<String> {
    match text.split_once('.') {
        None => Some(cardinal(whole(text)?)),
        Some((before, after)) => {
            let fraction = !after.is_empty() && after.bytes().all(|byte| byte.is_ascii_digit());
            let before = if before.is_empty() { 0 } else { whole(before)? };
            fraction.then(|| format!("{} point {}", cardinal(before), digits(after, false)))
        }
    }
}

/// "1,234" is 1234. `None` where the text is no whole number, is grouped wrongly or is too big.
pub(super) fn whole(text: &str) -> Option<u64> {
    let mut groups = text.split(',');
    let first = groups.next()?;
    let all_digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    if first.is_empty() || !all_digits(first) {
        return None;
    }
    let mut number = first.to_owned();
    for group in groups {
        if group.len() != 3 || !all_digits(group) || first.len() > 3 {
            return None;
        }
        number.push_str(group);
    }
    let most = 1_000_000_000_000_000;
    number.parse().ok().filter(|&number| number < most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cardinals_are_said_as_people_say_them() {
        for (number, words) in [
            (0, "zero"),
            (13, "thirteen"),
            (20, "twenty"),
            (42, "forty two"),
            (100, "one hundred"),
            (1_001, "one thousand one"),
            (12_345, "twelve thousand three hundred forty five"),
            (2_000_000, "two million"),
        ] {
            assert_eq!(cardinal(number), words);
        }
    }

    #[test]
    fn ordinals_bend_their_last_word() {
        for (number, words) in [
            (1, "first"),
            (12, "twelfth"),
            (20, "twentieth"),
            (23, "twenty third"),
            (100, "one hundredth"),
        ] {
            assert_eq!(ordinal(number), words);
        }
    }

    #[test]
    fn years_are_said_in_halves() {
        for (number, words) in [
            (1999, "nineteen ninety nine"),
            (1905, "nineteen oh five"),
            (1900, "nineteen hundred"),
            (2000, "two thousand"),
            (2005, "two thousand five"),
            (2026, "twenty twenty six"),
        ] {
            assert_eq!(year(number), words);
        }
    }

    #[test]
    fn only_numbers_are_numbers() {
        assert_eq!(decimal("3.5").as_deref(), Some("three point five"));
        assert_eq!(decimal(".05").as_deref(), Some("zero point zero five"));
        assert_eq!(
            decimal("1,234").as_deref(),
            Some("one thousand two hundred thirty four")
        );
        for text in [
            "",
            "1,23",
            "1.2.3",
            "12,345,6",
            "1.",
            "x",
            "99999999999999999999",
        ] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }
}
