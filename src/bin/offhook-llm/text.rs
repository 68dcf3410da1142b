//! Turns token bytes into text that may be spoken at once: whole characters only, and nothing
//! that might still become a stop string.

/// Joins bytes into whole UTF-8 characters. A token may end in the middle of one.
#[derive(Debug, Default)]
pub(crate) struct Utf8Joiner {
    held: Vec<u8>,
}

impl Utf8Joiner {
    /// Takes a token's bytes and returns the whole characters so far. Bytes that are no UTF-8
    /// are left out, since nothing could be spoken for them.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::new();
        let mut taken = 0;
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            taken += chunk.valid().len();
            let rest = &self.held[taken..];
            // The last, incomplete character waits for its other bytes.
            if rest.len() == chunk.invalid().len() && is_incomplete(rest) {
                break;
            }
            taken += chunk.invalid().len();
        }
        self.held.drain(..taken);
        text
    }
}

/// Whether `rest` is the beginning of one character whose other bytes are missing.
fn is_incomplete(rest: &[u8]) -> bool {
    matches!(std::str::from_utf8(rest), Err(error) if error.error_len().is_none())
}

/// Watches a reply for stop strings, holding back the end of the text while it may be the
/// beginning of one.
#[derive(Debug)]
pub(crate) struct StopStrings {
    stops: Vec<String>,
    held: String,
}

/// What may be passed on after a piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// This text, possibly none.
    Text(String),
    /// This text, and then a stop string came: the reply is over.
    Stopped(String),
}

impl StopStrings {
    /// Watches for `stops`; empty ones are ignored.
    pub(crate) fn new(stops: impl IntoIterator<Item = String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes the next piece of the reply.
    pub(crate) fn push(&mut self, piece: &str) -> Passed {
        self.held.push_str(piece);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(at) = first {
            self.held.truncate(at);
            return Passed::Stopped(std::mem::take(&mut self.held));
        }
        let keep = self.beginning_of_a_stop();
        let rest = self.held.split_off(self.held.len() - keep);
        Passed::Text(std::mem::replace(&mut self.held, rest))
    }

    /// What was held back, once the reply is over and no stop string came.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length in bytes of the longest end of the held text that begins a stop string.
    fn beginning_of_a_stop(&self) -> usize {
        let begins = |length: &usize| {
            let end = &self.held.as_bytes()[self.held.len() - length..];
            self.stops
                .iter()
                .any(|stop| stop.as_bytes().starts_with(end))
        };
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        // A stop string begins with a whole character, so the cut is between characters.
        (1..=longest.min(self.held.len()))
            .rev()
            .find(begins)
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_split_over_tokens_comes_out_whole() {
        let mut joiner = Utf8Joiner::default();
        let bytes = "caf\u{e9} \u{20ac}5 \u{1f600}!".as_bytes();
        for cut in 0..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            let text = joiner.push(head) + &joiner.push(tail);
            assert_eq!(text.as_bytes(), bytes, "cut at {cut}");
        }
        let single: String = bytes.iter().map(|byte| joiner.push(&[*byte])).collect();
        assert_eq!(single.as_bytes(), bytes);
    }

    #[test]
    fn bytes_that_are_no_text_are_left_out() {
        let mut joiner = Utf8Joiner::default();
        assert_eq!(joiner.push(b"a\xff\xfeb"), "ab");
        assert_eq!(
            joiner.push(b"\xe2\x82"),
            "",
            "two of three bytes of a euro sign"
        );
        assert_eq!(joiner.push(b"x"), "x", "it never came");
        assert_eq!(joiner.push(b"y"), "y");
    }

    #[test]
    fn a_stop_string_over_several_pieces_ends_the_reply_before_it() {
        let mut stops = StopStrings::new(["\nUser:".to_owned(), String::new()]);
        assert_eq!(
            stops.push("We open at nine.\n"),
            Passed::Text("We open at nine.".into())
        );
        assert_eq!(stops.push("Us"), Passed::Text(String::new()));
        assert_eq!(stops.push("er: and"), Passed::Stopped(String::new()));
    }

    #[test]
    fn held_text_is_released_when_it_turns_out_harmless_or_the_reply_ends() {
        let mut stops = StopStrings::new(["###".to_owned()]);
        assert_eq!(stops.push("number #"), Passed::Text("number ".into()));
        assert_eq!(stops.push("1 #"), Passed::Text("#1 ".into()));
        assert_eq!(stops.finish(), "#");
        assert_eq!(stops.finish(), "");
    }

    #[test]
    fn the_first_of_two_stop_strings_counts() {
        let mut stops = StopStrings::new(["bye".to_owned(), "good".to_owned()]);
        assert_eq!(stops.push("ok good bye"), Passed::Stopped("ok ".into()));
    }
}
