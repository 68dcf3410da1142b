//! A caller who speaks another language than the assistant understands.

use super::call::*;
use crate::conversation::{ChatRole, SpokenLanguage};
use crate::record::Role::{Bot, User};

const ENGLISH_ONLY: &str = "I'm sorry, I only understand English.";
const GERMAN: SpokenLanguage = SpokenLanguage {
    expected_probability: 0.01,
    other_probability: 0.97,
};
const ENGLISH: SpokenLanguage = SpokenLanguage {
    expected_probability: 0.97,
    other_probability: 0.01,
};

fn told(call: &Call) -> usize {
    let texts = call.texts_heard();
    texts.iter().filter(|text| **text == ENGLISH_ONLY).count()
}

#[test]
fn whoever_speaks_another_language_is_told_and_answered_when_they_speak_english() {
    let mut call = quiet_call();
    call.pass(500);
    call.is_heard_as(0, "Good in Tag each master.", 2000, GERMAN);
    call.pass(7000);
    assert_eq!(call.texts_heard(), [ENGLISH_ONLY]);
    assert_eq!(call.transcript_so_far(), [(Bot, ENGLISH_ONLY)]);
    assert_eq!(call.generates(), 0, "nothing was made of the words");
    let ledger = call.turns()[0];
    assert!(ledger.speech_ended_ms.is_some() && ledger.transcript_ms.is_some());
    assert_eq!(
        (ledger.first_packet_ms, ledger.holding_packet_ms),
        (None, call.heard_at(ENGLISH_ONLY))
    );

    call.is_heard_as(0, "Do you speak English?", 1500, ENGLISH);
    call.pass(4000);
    let asked = (ChatRole::User, "Do you speak English?".to_owned());
    assert_eq!(call.last_prompt(), [asked], "the German is no part of it");
    assert_eq!(call.texts_heard().last(), Some(&"All right."));
}

#[test]
fn a_foreign_word_in_an_english_sentence_is_not_refused() {
    let mut call = quiet_call();
    call.pass(500);
    let mixed = SpokenLanguage {
        expected_probability: 0.6,
        other_probability: 0.3,
    };
    call.is_heard_as(0, "I would like the sauerkraut, please.", 2000, mixed);
    call.pass(4000);
    assert_eq!(call.texts_heard(), ["All right."]);
}

#[test]
fn a_single_word_is_too_little_to_tell_its_language() {
    let mut call = quiet_call();
    call.pass(500);
    call.is_heard_as(0, "Okay.", 500, GERMAN);
    call.pass(4000);
    assert_eq!(call.texts_heard(), ["All right."]);
}

#[test]
fn over_the_assistants_speech_another_language_interrupts_as_well() {
    let mut call = quiet_call();
    call.model_says("We are open from nine to five on Monday and on every other day as well.");
    call.pass(500);
    call.says("When do you open?", 1200);
    call.pass(1200);
    assert!(call.is_speaking());
    let began = call.clock;
    call.is_heard_as(0, "Good in Tag each master.", 1600, GERMAN);
    call.pass(9000);
    assert!(call.stopped_at().is_some_and(|at| at < began + 1000));
    assert_eq!(told(&call), 1);
    let interrupted = call
        .messages()
        .iter()
        .any(|it| it.role == Bot && it.interrupted);
    assert!(interrupted, "{:?}", call.messages());
}

#[test]
fn another_language_that_goes_on_is_not_refused_for_ever() {
    let mut call = quiet_call();
    call.pass(500);
    for after in 0..5 {
        call.is_heard_as(after * 7000, "Good in Tag each master.", 2000, GERMAN);
    }
    call.pass(38_000);
    assert_eq!(told(&call), 2, "{:?}", call.texts_heard());
}

#[test]
fn a_long_turn_in_another_language_is_refused_as_one() {
    let mut call = quiet_call();
    call.pass(500);
    call.is_heard_as(
        0,
        "Good in Tag each master I'm in termine for next",
        6000,
        GERMAN,
    );
    // A breath, at which what was said becomes a part of its own.
    call.is_heard_as(6350, "and be in the", 1500, GERMAN);
    call.pass(16_000);
    assert_eq!(call.texts_heard(), [ENGLISH_ONLY]);
    assert_eq!(call.generates(), 0);
}

#[test]
fn english_with_something_else_behind_it_is_answered() {
    let mut call = quiet_call();
    call.pass(500);
    let english = "I would like to make an appointment for next week, if I may.";
    call.is_heard_as(0, english, 6000, ENGLISH);
    call.is_heard_as(6350, "Or miss a mama", 1500, GERMAN);
    call.pass(12_000);
    assert_eq!(call.transcript_so_far()[0], (User, english));
    assert_eq!(told(&call), 0);
}

#[test]
fn an_assistant_without_such_a_phrase_answers_what_it_heard() {
    let json = r#"{"failurePlan": {"otherLanguageMessage": ""}}"#;
    let mut call = Call::new(&settings(json));
    call.pass(500);
    call.is_heard_as(0, "Good in Tag each master.", 2000, GERMAN);
    call.pass(5000);
    assert_eq!(call.texts_heard(), ["All right."]);
}

#[test]
fn the_phrase_names_the_language_or_is_the_assistants_own() {
    for (json, expected) in [
        (
            r#"{"transcriber": {"language": "fr"}}"#,
            "I'm sorry, I only understand French.",
        ),
        (
            r#"{"failurePlan": {"otherLanguageMessage": "English, please."}}"#,
            "English, please.",
        ),
    ] {
        let mut call = Call::new(&settings(json));
        call.pass(500);
        call.is_heard_as(0, "Good in Tag each master.", 2000, GERMAN);
        call.pass(6000);
        assert_eq!(call.texts_heard(), [expected]);
    }
}
