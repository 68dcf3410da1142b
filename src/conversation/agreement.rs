//! Which words will stay, of those heard while the caller is still speaking: the ones that two
//! decodes in a row agree on (Macháček et al. 2023, "Turning Whisper into Real-Time Transcription
//! System").
//!
//! ```text
//!  decodes    I would          I would like to book a     I would like to book a room for
//!  stable     I                I would                    I would like to book a
//! ```

use super::phrases::words;

/// What was heard of an utterance so far.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    last: Vec<String>,
}

impl Agreement {
    /// Takes in a decode of all that was said so far; returns the beginning of it that is stable.
    /// The first has nobody to agree with: all of it counts but the last word, which may be cut.
    pub(super) fn hear(&mut self, text: &str) -> String {
        let heard: Vec<&str> = text.split_whitespace().collect();
        let compared: Vec<String> = heard.iter().map(|word| words(word).concat()).collect();
        let stable = match self.last.is_empty() {
            true => heard.len().saturating_sub(1),
            false => {
                let pairs = self.last.iter().zip(&compared);
                pairs.take_while(|(before, now)| before == now).count()
            }
        };
        self.last = compared;
        heard[..stable].join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_stable_when_two_decodes_agree_whatever_their_case_and_punctuation() {
        let mut agreement = Agreement::default();
        let stable: Vec<String> = [
            "I would.",
            "I would like two boo",
            "I would like to, book a room",
            "i would like to book a room for",
            "",
        ]
        .map(|text| agreement.hear(text))
        .into();
        assert_eq!(
            stable,
            [
                "I",
                "I would",
                "I would like",
                "i would like to book a room",
                ""
            ]
        );
    }
}
