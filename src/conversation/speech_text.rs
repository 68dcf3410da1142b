//! Cuts a streamed reply into clauses, each of which is synthesised on its own: the first one
//! early, so that the caller hears something soon, where a speaker may take a breath; the others
//! at the ends of sentences.

use super::markup;

/// No clause is longer, in characters.
pub const MOST_CLAUSE: usize = 180;
/// The first clause is cut between words where no punctuation came until here.
const MOST_FIRST_CLAUSE: usize = 56;
/// A comma ends the first clause from this many words on.
const FIRST_CLAUSE_WORDS: usize = 3;
/// A word that opens a phrase ends the first clause before it from this many words on: to write
/// more would cost the caller more than the breath between the two.
const FIRST_PHRASE_WORDS: usize = 4;
/// Words that open a phrase.
const PHRASE_OPENERS: &[&str] = &[
    "about", "after", "and", "because", "before", "between", "but", "during", "for", "from", "if",
    "on", "or", "since", "so", "that", "through", "until", "when", "where", "which", "while",
    "who",
];
/// Words that belong to what comes after them.
const LEADING: &[&str] = &[
    "a", "an", "the", "our", "my", "your", "not", "is", "are", "be",
];
/// A comma ends a later clause from this many characters on.
const LONG_CLAUSE: usize = 70;

/// Before a name or a number: never the end of a sentence.
const NEVER_LAST: &[&str] = &[
    "dr", "mr", "mrs", "ms", "prof", "st", "mt", "ft", "gen", "sen", "rep", "gov", "capt", "lt",
    "col", "sgt", "rev", "hon", "vs", "e.g", "i.e", "approx", "fig", "vol", "nos",
];
/// Ends a sentence only where the next word starts one.
const SELDOM_LAST: &[&str] = &[
    "etc", "inc", "ltd", "co", "corp", "jr", "sr", "ave", "blvd", "rd", "dept", "est", "min", "hr",
    "hrs", "oz", "lb", "lbs", "ext", "apt", "ph.d", "jan", "feb", "mar", "apr", "jun", "jul",
    "aug", "sep", "sept", "oct", "nov", "dec", "mon", "tue", "tues", "wed", "thu", "thurs", "fri",
    "sat", "sun",
];
/// Capitalised words that go on with a sentence after "a.m.".
const AFTER_A_TIME: &[&str] = &[
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "eastern",
    "central",
    "mountain",
    "pacific",
    "est",
    "pst",
    "cst",
    "mst",
    "et",
    "pt",
    "gmt",
    "utc",
];

/// Collects a reply's text and hands out its clauses, in plain words.
#[derive(Clone, Debug)]
pub struct ClauseCutter {
    buffer: String,
    first: bool,
    line_start: bool,
    in_fence: bool,
}

impl Default for ClauseCutter {
    fn default() -> Self {
        Self {
            buffer: String::new(),
            first: true,
            line_start: true,
            in_fence: false,
        }
    }
}

impl ClauseCutter {
    /// A cutter for a reply of which nothing has come.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a piece, of any size, and takes the clauses that are complete with it.
    pub fn push(&mut self, piece: &str) -> Vec<String> {
        self.buffer.push_str(piece);
        self.take(false)
    }

    /// The reply is complete: takes what is left.
    pub fn finish(&mut self) -> Vec<String> {
        self.take(true)
    }

    fn take(&mut self, complete: bool) -> Vec<String> {
        let mut clauses = Vec::new();
        while let Some(end) = cut(&self.buffer, self.first, complete) {
            let rest = self.buffer.split_off(end);
            let raw = std::mem::replace(&mut self.buffer, rest);
            let opens_line = self.line_start;
            self.line_start = raw.ends_with('\n');
            if let Some(clause) = self.clean(&raw, opens_line) {
                self.first = false;
                clauses.push(clause);
            }
        }
        clauses
    }

    fn clean(&mut self, raw: &str, opens_line: bool) -> Option<String> {
        if opens_line && raw.trim_start().starts_with("```") {
            self.in_fence = !self.in_fence;
            return None;
        }
        if self.in_fence || (opens_line && markup::is_decoration(raw)) {
            return None;
        }
        let plain = markup::plain(raw, opens_line);
        plain.chars().any(char::is_alphanumeric).then_some(plain)
    }
}

/// Where the first clause of `text` ends, white space after it included. `None` where that
/// depends on text to come.
fn cut(text: &str, first: bool, complete: bool) -> Option<usize> {
    let most = if first {
        MOST_FIRST_CLAUSE
    } else {
        MOST_CLAUSE
    };
    let mut letters = 0;
    let mut words = 0;
    let mut in_word = false;
    let mut last_space = None;
    for (at, letter) in text.char_indices() {
        let after = at + letter.len_utf8();
        if letter == '\n' {
            return Some(after);
        }
        if letters >= most {
            return Some(last_space.unwrap_or(at));
        }
        letters += 1;
        if letter.is_whitespace() {
            if first && words > FIRST_PHRASE_WORDS && opens_phrase(text, last_space, at) {
                return last_space;
            }
            last_space = Some(after);
            in_word = false;
            continue;
        }
        if !in_word && letter.is_alphanumeric() {
            words += 1;
            in_word = true;
        }
        let enough = if first {
            words >= FIRST_CLAUSE_WORDS
        } else {
            letters >= LONG_CLAUSE
        };
        let ends = match letter {
            '.' | '!' | '?' | '\u{2026}' => ends_sentence(text, at, words, complete),
            ',' | ';' | ':' => enough.then(|| gap(text, after)).flatten(),
            '\u{2014}' if enough => Some(after),
            _ => None,
        };
        if ends.is_some() {
            return ends;
        }
    }
    (complete && !text.is_empty()).then_some(text.len())
}

/// The word between a space and the next one opens a phrase, and the word before it does not.
fn opens_phrase(text: &str, from: Option<usize>, to: usize) -> bool {
    let Some(from) = from else {
        return false;
    };
    let before = text[..from].split_whitespace().next_back();
    PHRASE_OPENERS.contains(&&text[from..to])
        && before.is_some_and(|word| !PHRASE_OPENERS.contains(&word) && !LEADING.contains(&word))
}

/// The end of the white space at `from`, where there is some.
fn gap(text: &str, from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let next = rest.trim_start_matches([' ', '\t', '\r']);
    (next.len() < rest.len()).then_some(text.len() - next.len())
}

/// Where the sentence that the mark at `at` ends is over, closing quotes and space included.
fn ends_sentence(text: &str, at: usize, words: usize, complete: bool) -> Option<usize> {
    if words == 0 {
        return None;
    }
    let mark_end = at + text[at..].chars().next().map_or(0, char::len_utf8);
    let closers = [
        '"', '\'', ')', ']', '*', '_', '`', '\u{201D}', '\u{2019}', '!', '?', '.',
    ];
    let closed = text[mark_end..].trim_start_matches(closers);
    let closed_at = text.len() - closed.len();
    let end = if closed.starts_with('\n') {
        closed_at
    } else {
        gap(text, closed_at)?
    };
    if !text[at..].starts_with('.') || closed_at > mark_end && text[mark_end..].starts_with('.') {
        return Some(end);
    }
    let space = text[..at]
        .char_indices()
        .rev()
        .find(|(_, letter)| letter.is_whitespace());
    let word_start = space.map_or(0, |(place, letter)| place + letter.len_utf8());
    let word = text[word_start..at].trim_start_matches(|letter: char| !letter.is_alphanumeric());
    let opens_line = text[..word_start].trim().is_empty();
    stop_ends_sentence(word, opens_line, &text[end..], complete).then_some(end)
}

fn stop_ends_sentence(word: &str, opens_line: bool, next: &str, complete: bool) -> bool {
    let lower = word.to_lowercase();
    let single = word.chars().count() == 1;
    let next_letter = next.chars().next();
    let before_digit = next_letter.is_some_and(|letter| letter.is_ascii_digit());
    if NEVER_LAST.contains(&lower.as_str()) {
        return false;
    }
    if single && word != "I" && word.chars().all(char::is_uppercase) {
        return false;
    }
    if !word.is_empty() && word.chars().all(|letter| letter.is_ascii_digit()) {
        return !opens_line && next_letter.is_some() && !before_digit;
    }
    if lower == "no" {
        return next_letter.is_some() && !before_digit;
    }
    if lower.contains('.') && !lower.contains("..") || SELDOM_LAST.contains(&lower.as_str()) {
        return starts_sentence(next, complete);
    }
    true
}

/// The next word is there, whole, and starts a sentence.
fn starts_sentence(next: &str, complete: bool) -> bool {
    let end = next.find(|letter: char| !letter.is_alphanumeric() && letter != '\'');
    let word = match end {
        Some(end) => &next[..end],
        None if complete => next,
        None => return false,
    };
    word.starts_with(char::is_uppercase) && !AFTER_A_TIME.contains(&word.to_lowercase().as_str())
}

#[cfg(test)]
mod tests;
