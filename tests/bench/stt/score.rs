//! Compares what was said with what was heard.

/// What an utterance is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Single digits; words that sound like one count as it.
    Digits,
    /// Anything.
    Any,
}

const NAMES: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];
const SOUNDS: [(&str, usize); 6] = [
    ("oh", 0),
    ("o", 0),
    ("to", 2),
    ("too", 2),
    ("for", 4),
    ("ate", 8),
];

/// Words substituted, left out or put in, and how many were said.
pub(crate) fn errors(said: &str, heard: &str, kind: Words) -> (usize, usize) {
    let (said, heard) = (words(said, kind), words(heard, kind));
    (distance(&said, &heard), said.len())
}

fn words(text: &str, kind: Words) -> Vec<String> {
    let text = text
        .to_lowercase()
        .replace("i'd ", "i would ")
        .replace('\'', "");
    let mut words = Vec::new();
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            words.extend(word.chars().map(String::from));
        } else {
            words.push(digit(word, kind).map_or(word.to_owned(), |digit| digit.to_string()));
        }
    }
    words
}

fn digit(word: &str, kind: Words) -> Option<usize> {
    let named = NAMES.iter().position(|name| *name == word);
    let sounds = || {
        SOUNDS
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, digit)| *digit)
    };
    named.or_else(|| {
        if kind == Words::Digits {
            sounds()
        } else {
            None
        }
    })
}

/// Levenshtein's.
fn distance(said: &[String], heard: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, a) in said.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in heard.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[heard.len()]
}
