use super::*;
use crate::whisper::Language;

/// `[a b c d e f 1 2 3 , ♪ (space)]`, then the special ones, then ten seconds of timestamps.
const PIECES: [&str; 12] = [
    " a", " b", " c", " d", " e", " f", " 1", " 2", " 3", ",", "\u{266A}", " ",
];
const END: Token = 12;
const FIRST_TIMESTAMP: Token = 18;

fn special() -> SpecialTokens {
    SpecialTokens {
        end: END,
        start: 13,
        previous: 14,
        no_speech: 15,
        first_timestamp: FIRST_TIMESTAMP,
        transcribe: 17,
        languages: vec![Language {
            code: "en".parse().unwrap(),
            token: 16,
        }],
    }
}

fn vocabulary() -> Vocabulary {
    let mut pieces: Vec<Vec<u8>> = PIECES
        .iter()
        .map(|piece| piece.as_bytes().to_vec())
        .collect();
    pieces.resize(FIRST_TIMESTAMP as usize + 501, Vec::new());
    Vocabulary::new(&special(), &pieces)
}

fn at(seconds: f32) -> Token {
    FIRST_TIMESTAMP + (seconds * 50.0) as Token
}

fn word(letter: &str) -> Token {
    PIECES
        .iter()
        .position(|piece| piece.trim() == letter)
        .unwrap() as Token
}

/// A model that wants to say these tokens in this order, over and over.
struct Wants {
    tokens: Vec<Token>,
    /// What it would say if the wanted one is forbidden.
    otherwise: Token,
    no_speech: f32,
    starts_at_once: bool,
    said: usize,
}

impl Wants {
    fn new(tokens: &[Token]) -> Self {
        Self {
            tokens: tokens.to_vec(),
            otherwise: END,
            no_speech: 0.0,
            starts_at_once: false,
            said: 0,
        }
    }
}

impl NextToken for Wants {
    fn next_token(&mut self, tokens: &[Token], _past: usize) -> Result<&[f32], WhisperError> {
        let mut logits = vec![0.0; FIRST_TIMESTAMP as usize + 501];
        if tokens.last() == Some(&special().start) && !self.starts_at_once {
            logits[special().no_speech as usize] = self.no_speech;
        } else {
            logits[self.otherwise as usize] = 10.0;
            logits[self.tokens[self.said % self.tokens.len()] as usize] = 20.0;
            self.said += 1;
        }
        Ok(Vec::leak(logits))
    }
}

const RULES: Rules = Rules {
    speech_end: 4.0,
    slack: 0.4,
    max_tokens: 60,
    alphabet: Alphabet::Words,
};

fn run(model: &mut Wants, rules: &Rules) -> Decoded {
    decode(model, &vocabulary(), &[13, 16, 17], rules, &|| false).unwrap()
}

fn text(decoded: &Decoded) -> String {
    vocabulary().text(decoded.tokens.iter().copied())
}

#[test]
fn an_ordinary_utterance_ends_with_its_segment() {
    let said = [
        at(0.0),
        word("a"),
        word("b"),
        word("c"),
        at(3.9),
        at(3.9),
        word("d"),
        END,
    ];
    let decoded = run(&mut Wants::new(&said), &RULES);
    assert_eq!(text(&decoded), "a b c");
    assert_eq!(decoded.ending, Ending::SpeechEnd);
    assert!(decoded.mean_log_probability > -0.01);
}

#[test]
fn an_english_only_model_has_no_task_and_says_the_same() {
    let said = [at(0.0), word("a"), word("b"), at(3.9), END];
    let mut model = Wants::new(&said);
    // Behind the start comes the first token at once.
    model.starts_at_once = true;
    let decoded = decode(&mut model, &vocabulary(), &[13], &RULES, &|| false).unwrap();
    assert_eq!(decoded.tokens[0], at(0.0));
    assert_eq!(text(&decoded), "a b");
}

#[test]
fn a_pause_within_the_speech_does_not_end_it() {
    let said = [
        at(0.0),
        word("a"),
        at(1.0),
        at(2.0),
        word("b"),
        at(4.0),
        at(4.0),
        word("c"),
        END,
    ];
    assert_eq!(text(&run(&mut Wants::new(&said), &RULES)), "a b");
}

#[test]
fn no_segment_lies_beyond_the_speech() {
    let said = [at(0.0), word("a"), at(9.0), word("b"), END];
    let decoded = run(&mut Wants::new(&said), &RULES);
    assert!(
        decoded.tokens.iter().all(|token| *token <= at(4.4)),
        "{:?}",
        decoded.tokens
    );
}

#[test]
fn music_blanks_and_steering_tokens_are_not_spoken() {
    for unspoken in [10, 11, 13, 14, 15, 16, 17] {
        let mut model = Wants::new(&[at(0.0), unspoken, at(4.0)]);
        model.otherwise = word("a");
        let decoded = run(&mut model, &RULES);
        assert!(
            !decoded.tokens.contains(&unspoken),
            "{unspoken} in {:?}",
            decoded.tokens
        );
    }
}

#[test]
fn a_sentence_that_starts_again_is_cut() {
    let sentence: Vec<Token> = ["a", "b", "c", "d", "e", "f"].map(word).to_vec();
    let said = [vec![at(0.0)], sentence.repeat(20)].concat();
    let decoded = run(&mut Wants::new(&said), &RULES);
    assert_eq!(decoded.ending, Ending::Repetition);
    assert_eq!(text(&decoded), "a b c d e f");
}

#[test]
fn a_number_of_sevens_is_not_a_repetition() {
    let number = [word("2"); 7];
    assert_eq!(repetition(&number, |_| true), None);
    assert_eq!(repetition(&[word("2"); 9], |_| true), Some(1));
    let spelled = [word("2"), word(",")].repeat(7);
    assert_eq!(repetition(&spelled, |_| true), None);
}

#[test]
fn whatever_it_wants_it_stops() {
    let endless: Vec<Token> = (0..200).map(|n| (n * n + n / 7) % 6).collect();
    let mut model = Wants::new(&endless);
    model.otherwise = at(0.0);
    let decoded = run(&mut model, &RULES);
    assert!(decoded.tokens.len() <= RULES.max_tokens);
    assert!(matches!(decoded.ending, Ending::Limit | Ending::Repetition));
}

#[test]
fn figures_are_all_that_the_alphabet_of_figures_has() {
    let mut model = Wants::new(&[at(0.0), word("a"), word("2"), word("b"), at(4.0)]);
    model.otherwise = word("1");
    let rules = Rules {
        alphabet: Alphabet::Figures,
        ..RULES
    };
    let decoded = run(&mut model, &rules);
    assert_eq!(text(&decoded), "1 2 1");
    // Measured against the words that were wanted.
    assert!(decoded.mean_log_probability < -5.0);
}

#[test]
fn silence_is_recognised_by_the_probability_of_no_speech() {
    let mut model = Wants::new(&[at(0.0), word("a"), at(4.0)]);
    model.no_speech = 20.0;
    assert!(run(&mut model, &RULES).no_speech_probability > 0.99);
    let mut model = Wants::new(&[at(0.0), word("a"), at(4.0)]);
    assert!(run(&mut model, &RULES).no_speech_probability < 0.01);
}

#[test]
fn a_cancelled_decode_stops_before_the_next_token() {
    let mut model = Wants::new(&[at(0.0), word("a"), word("b")]);
    let asked = std::cell::Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let decoded = decode(&mut model, &vocabulary(), &[13, 16, 17], &RULES, &cancelled).unwrap();
    assert_eq!(decoded.ending, Ending::Cancelled);
    assert_eq!(model.said, 2);
}
