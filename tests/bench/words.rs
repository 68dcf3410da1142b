//! Words compared as a listener would: without case and punctuation, numbers by their digits.

const DIGITS: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];
const TEENS: [&str; 10] = [
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
const TENS: [&str; 8] = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];

/// Repeated as often as this more than it was said, a stretch of words is a runaway.
const RUNAWAY: usize = 3;

/// Digits, spelled: "4 2" is "four two".
pub(crate) fn spell_out(digits: &str) -> String {
    let words = digits
        .chars()
        .filter_map(|digit| DIGITS.get(digit.to_digit(10)? as usize));
    words.copied().collect::<Vec<_>>().join(" ")
}

/// The words of a text in one spelling: lower case, apostrophes gone, every number as its single
/// digits, whether it was "12345", "1-2-3-4-5" or "one two three four five".
pub(crate) fn normalised(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace(['\'', '\u{2019}'], "");
    let pieces = text
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|piece| !piece.is_empty());
    let mut words: Vec<String> = Vec::new();
    let mut after_tens = false;
    for piece in pieces {
        let position = |names: &[&str]| names.iter().position(|name| *name == piece);
        let was_after_tens = std::mem::take(&mut after_tens);
        if piece.chars().all(|letter| letter.is_ascii_digit()) {
            words.extend(piece.chars().map(String::from));
        } else if let Some(digit) = position(&DIGITS) {
            if was_after_tens && digit > 0 {
                // "twenty six" is 26, not 20 6.
                words.pop();
            }
            words.push(digit.to_string());
        } else if let Some(ones) = position(&TEENS) {
            words.extend(["1".to_owned(), ones.to_string()]);
        } else if let Some(tens) = position(&TENS) {
            words.extend([(tens + 2).to_string(), "0".to_owned()]);
            after_tens = true;
        } else {
            words.push(piece.to_owned());
        }
    }
    words
}

/// Words that must be replaced, dropped or added to make one out of the other.
pub(crate) fn errors(said: &[String], heard: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (number, word) in said.iter().enumerate() {
        let mut diagonal = number;
        row[0] = number + 1;
        for (column, other) in heard.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[heard.len()]
}

/// Whether what was heard repeats itself, or goes on, far beyond what was said.
pub(crate) fn ran_away(said: &[String], heard: &[String]) -> bool {
    let repeats = |words: &[String]| {
        (1..=8)
            .map(|length| most_repeats(words, length))
            .max()
            .unwrap_or(0)
    };
    repeats(heard) >= repeats(said) + RUNAWAY - 1 || heard.len() > said.len() * 3 / 2 + 6
}

/// How often at most one stretch of `length` words follows itself.
fn most_repeats(words: &[String], length: usize) -> usize {
    let (mut most, mut matching) = (1, 0);
    for (word, later) in words.iter().zip(words.iter().skip(length)) {
        matching = if word == later { matching + 1 } else { 0 };
        most = most.max(1 + matching / length);
    }
    most
}

/// The words with a space before and after each, to look for stretches of words in.
pub(crate) fn spaced(text: &str) -> String {
    let letter = |letter: char| {
        if letter.is_alphanumeric() {
            letter
        } else {
            ' '
        }
    };
    let text: String = text.chars().map(letter).collect();
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    format!(" {} ", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_number_is_its_digits_however_it_is_written() {
        for written in [
            "2601815",
            "2-6-0-1-8-1-5",
            "two six zero one eight one five.",
            "26 01 815",
            "Twenty-six, zero, 1815",
        ] {
            assert_eq!(normalised(written), words("2 6 0 1 8 1 5"), "{written}");
        }
        assert_eq!(
            normalised("Nineteen, forty; twenty zero"),
            words("1 9 4 0 2 0 0")
        );
        assert_eq!(spell_out("2 0 9"), "two zero nine");
    }

    #[test]
    fn case_punctuation_and_apostrophes_are_no_errors() {
        assert_eq!(
            normalised("I\u{2019}d like - PLEASE!"),
            normalised("Id like please")
        );
    }

    #[test]
    fn every_replaced_dropped_or_added_word_is_one_error() {
        let said = words("a b c d");
        assert_eq!(errors(&said, &said), 0);
        assert_eq!(errors(&said, &words("a x c d")), 1);
        assert_eq!(errors(&said, &words("a c d")), 1);
        assert_eq!(errors(&said, &words("a b b c d e")), 2);
        assert_eq!(errors(&said, &[]), 4);
        assert_eq!(errors(&[], &said), 4);
    }

    #[test]
    fn what_repeats_beyond_what_was_said_has_run_away() {
        assert!(ran_away(&words("5 1"), &words("5 1 5 1 5 1")));
        assert!(ran_away(&words("no"), &words("no no no")));
        assert!(ran_away(&words("yes"), &words("a b c d e f g h")));
        assert!(!ran_away(&words("2 2 2 7"), &words("2 2 2 7")));
        assert!(!ran_away(&words("2 2 2 7"), &words("2 2 2 2 7")));
        assert!(!ran_away(&words("5 1 9 1"), &words("5 1 5 1 9 1")));
    }

    #[test]
    fn stretches_of_words_are_found_only_whole() {
        assert!(spaced("It's at 9:30, Monday.").contains(&spaced("9 30")));
        assert!(!spaced("It costs 190 dollars.").contains(&spaced("19")));
    }
}
