//! Engines fail, hang, die and come back; the caller is never left in silence.

use super::super::*;
use super::call::*;
use crate::record::EndedReason;
use crate::record::Role::{Bot, User};

/// The longest silence the caller heard from `from` on, while waiting.
fn longest_silence(call: &Call, from: u64, to: u64) -> u64 {
    let mut silent_since = from;
    let mut longest = 0;
    for heard in call
        .heard
        .iter()
        .filter(|heard| heard.to > from && heard.from < to)
    {
        longest = longest.max(heard.from.saturating_sub(silent_since));
        silent_since = heard.to;
    }
    longest
}

fn asked(call: &mut Call) -> u64 {
    call.pass(500);
    call.says("When do you open?", 900);
    call.clock
}

#[test]
fn a_failed_transcript_is_tried_again() {
    let mut call = Call::new(&settings(r#"{"speculationPlan": {"enabled": false}}"#));
    call.stt.failures = 1;
    let silence = asked(&mut call);
    call.pass(5000);
    assert_eq!(call.texts_heard(), [HOLDING, "All right."]);
    assert!(longest_silence(&call, silence, call.clock) < 2000);
    let ledger = call.turns()[0];
    assert_eq!(ledger.retries, 1);
    assert_eq!(ledger.holding_packet_ms, call.heard_at(HOLDING));
    assert_eq!(ledger.first_packet_ms, call.heard_at("All right."));
}

#[test]
fn a_speculative_failure_is_spoken_over_once_the_turn_is_over() {
    let mut call = quiet_call();
    call.stt.failures = 1;
    let silence = asked(&mut call);
    call.pass(5000);
    assert_eq!(call.texts_heard(), [HOLDING, "All right."]);
    assert!(longest_silence(&call, silence, call.clock) < 2000);
}

#[test]
fn a_transcript_that_fails_twice_gets_an_apology_and_the_next_turn_works() {
    let mut call = Call::new(&settings(r#"{"speculationPlan": {"enabled": false}}"#));
    call.stt.failures = 2;
    asked(&mut call);
    call.pass(9000);
    assert_eq!(call.texts_heard(), [HOLDING, APOLOGY]);
    call.says("When do you open?", 900);
    call.pass(4000);
    assert_eq!(call.texts_heard().last(), Some(&"All right."));
    assert_eq!(call.ended, None);
}

#[test]
fn a_failed_model_is_asked_again_under_a_new_generation() {
    let mut call = Call::new(&settings(r#"{"speculationPlan": {"enabled": false}}"#));
    call.llm.failures = 1;
    let silence = asked(&mut call);
    call.pass(5000);
    assert_eq!(call.texts_heard(), [HOLDING, "All right."]);
    assert_eq!(call.generates(), 2);
    assert!(longest_silence(&call, silence, call.clock) < 2000);
}

#[test]
fn a_model_that_breaks_off_in_mid_reply_goes_on_after_what_was_said() {
    let mut call = quiet_call();
    call.pass(500);
    call.model_says("We open at nine every day. We close at five on Sundays only.");
    call.model_says("And we close at six.");
    call.breaks_off_after = Some(9);
    call.llm.delay = 50;
    call.says("When do you open?", 900);
    call.pass(9000);
    let texts = call.texts_heard();
    assert_eq!(texts[0], "We open at nine every day.");
    assert_eq!(texts.last(), Some(&"And we close at six."));
    let prompt = call.last_prompt();
    assert_eq!(
        prompt.last(),
        Some(&(ChatRole::Assistant, "We open at nine every day.".to_owned()))
    );
    assert_eq!(
        call.transcript_so_far().last(),
        Some(&(Bot, "We open at nine every day. And we close at six."))
    );
}

#[test]
fn a_voice_that_fails_once_is_tried_again() {
    let mut call = Call::new(&settings(r#"{"speculationPlan": {"enabled": false}}"#));
    call.tts.failures = 1;
    asked(&mut call);
    call.pass(5000);
    assert_eq!(call.texts_heard(), [HOLDING, "All right."]);
    assert_eq!(call.turns()[0].retries, 1);
}

#[test]
fn a_dead_voice_still_speaks_its_prepared_phrases() {
    let mut call = Call::new(&settings(r#"{"speculationPlan": {"enabled": false}}"#));
    call.tts.failures = u32::MAX;
    let silence = asked(&mut call);
    call.pass(5000);
    assert_eq!(call.texts_heard(), [HOLDING, APOLOGY]);
    assert!(longest_silence(&call, silence, call.clock) < 2000);
    assert_eq!(call.ended, None);
}

#[test]
fn a_voice_that_dies_in_mid_reply_lets_the_caller_know_after_what_was_said() {
    let mut call = quiet_call();
    call.pass(500);
    call.model_says("We open at nine. We close at five. We rest at night.");
    call.says("When do you open?", 900);
    while call.heard_at("We open at nine.").is_none() {
        call.pass(20);
    }
    call.tts.failures = u32::MAX;
    call.pass(9000);
    assert_eq!(call.texts_heard().last(), Some(&APOLOGY));
    let told = call
        .messages()
        .into_iter()
        .find(|message| message.role == Bot)
        .unwrap();
    assert!(told.message.starts_with("We open at nine."));
    assert!(!told.message.contains("night"), "{}", told.message);
}

#[test]
fn turns_that_keep_failing_end_the_call_with_a_reason() {
    let mut call = quiet_call();
    call.llm.failures = u32::MAX;
    asked(&mut call);
    call.pass(9000);
    assert_eq!(call.texts_heard().last(), Some(&APOLOGY));
    asked(&mut call);
    call.pass(15_000);
    assert_eq!(call.texts_heard().last(), Some(&TROUBLE));
    assert_eq!(
        call.ended.map(|(_, reason, _)| reason),
        Some(EndedReason::InternalError)
    );
}

#[test]
fn one_good_turn_forgives_the_failed_one() {
    let mut call = quiet_call();
    for _ in 0..4 {
        // The speculation, the answer and its second attempt.
        call.llm.failures = 3;
        asked(&mut call);
        call.pass(9000);
        assert_eq!(call.texts_heard().last(), Some(&APOLOGY));
        asked(&mut call);
        call.pass(5000);
    }
    assert_eq!(call.ended, None);
}

#[test]
fn a_failure_that_cannot_be_retried_is_said_at_once() {
    let mut call = Call::new(&settings(r#"{"speculationPlan": {"enabled": false}}"#));
    call.llm.failures = 1;
    call.llm.retryable = false;
    asked(&mut call);
    call.pass(5000);
    assert_eq!(call.texts_heard(), [APOLOGY]);
    assert_eq!(call.generates(), 1);
}

#[test]
fn a_slow_model_makes_the_assistant_ask_for_patience() {
    let mut call = quiet_call();
    call.llm.delay = 5000;
    let silence = asked(&mut call);
    call.pass(9000);
    assert_eq!(call.texts_heard(), [HOLDING, "All right."]);
    let patience = call.heard_at(HOLDING).unwrap() - silence;
    assert!((3300..3600).contains(&patience), "{patience}");
    let ledger = call.turns()[0];
    assert_eq!(ledger.holding_packet_ms, call.heard_at(HOLDING));
    assert_eq!(ledger.first_packet_ms, call.heard_at("All right."));
    assert_eq!(call.turns()[0].retries, 0);
}

#[test]
fn a_model_that_never_answers_is_given_up() {
    let mut call = quiet_call();
    call.llm.hangs = true;
    asked(&mut call);
    call.pass(60_000);
    assert!(
        call.texts_heard().contains(&APOLOGY),
        "{:?}",
        call.texts_heard()
    );
    assert!(
        call.texts_heard()
            .iter()
            .filter(|text| **text == HOLDING)
            .count()
            <= 6
    );
}

#[test]
fn a_recogniser_that_never_answers_is_given_up() {
    let mut call = quiet_call();
    call.stt.hangs = true;
    asked(&mut call);
    call.pass(60_000);
    assert!(call.texts_heard().contains(&APOLOGY));
}

#[test]
fn a_voice_that_never_answers_is_given_up() {
    let mut call = quiet_call();
    call.tts.hangs = true;
    asked(&mut call);
    call.pass(60_000);
    assert!(call.texts_heard().contains(&APOLOGY));
}

#[test]
fn a_model_that_says_nothing_has_failed() {
    let mut call = Call::new(&settings(r#"{"speculationPlan": {"enabled": false}}"#));
    call.model_says("  \n ");
    call.model_says("Yes.");
    asked(&mut call);
    call.pass(5000);
    assert_eq!(call.texts_heard(), [HOLDING, "Yes."]);
}

#[test]
fn a_second_attempt_waits_until_the_engine_is_back() {
    let mut call = Call::new(&settings(r#"{"speculationPlan": {"enabled": false}}"#));
    call.llm.failures = 1;
    asked(&mut call);
    call.handle(Input::EngineState {
        engine: Engine::Llm,
        up: true,
    });
    while call.generates() == 0 {
        call.pass(10);
    }
    call.handle(Input::EngineState {
        engine: Engine::Llm,
        up: false,
    });
    call.pass(1500);
    assert_eq!(call.generates(), 1);
    assert_eq!(call.texts_heard(), [HOLDING]);
    call.handle(Input::EngineState {
        engine: Engine::Llm,
        up: true,
    });
    call.pass(2000);
    assert_eq!(call.texts_heard(), [HOLDING, "All right."]);
}

#[test]
fn an_engine_that_stays_away_is_given_up_too() {
    for engine in [Engine::Stt, Engine::Llm, Engine::Tts] {
        let mut call = quiet_call();
        call.handle(Input::EngineState { engine, up: false });
        asked(&mut call);
        call.pass(60_000);
        assert!(
            call.texts_heard().contains(&APOLOGY),
            "{engine:?}: {:?}",
            call.texts_heard()
        );
    }
}

#[test]
fn words_that_cannot_be_made_out_are_asked_for_again() {
    let mut call = quiet_call();
    call.pass(500);
    call.sound(0, "", 1200, (0.95, -0.3, 0.4));
    call.pass(6000);
    assert_eq!(call.texts_heard(), [MISSED]);
    assert_eq!(call.transcript_so_far(), [(Bot, MISSED)]);
    let ledger = call.turns()[0];
    assert_eq!(
        (ledger.first_packet_ms, ledger.holding_packet_ms),
        (None, call.heard_at(MISSED))
    );
    call.says("I said hello.", 900);
    call.pass(3000);
    assert_eq!(
        call.last_prompt(),
        [(ChatRole::User, "I said hello.".to_owned())]
    );
}

#[test]
fn a_burst_of_noise_gets_no_answer() {
    let mut call = quiet_call();
    call.pass(500);
    for after in [0, 2000, 4000] {
        call.noise(after, "", 200, 0.6);
    }
    call.pass(8000);
    assert_eq!(call.texts_heard(), Vec::<&str>::new());
    assert_eq!((call.messages().len(), call.turns().len()), (0, 0));
}

#[test]
fn words_invented_for_noise_are_refused() {
    let mut call = quiet_call();
    call.pass(500);
    call.noise(0, "Thank you for watching.", 350, 0.65);
    call.pass(5000);
    assert_eq!(call.messages().len(), 0);
    assert_eq!(call.generates(), 0);
}

#[test]
fn a_detector_that_dies_in_mid_speech_does_not_keep_the_turn_open() {
    let mut call = quiet_call();
    call.pass(500);
    call.detector_dies_at = call.clock + 700;
    call.says("When do you open?", 900);
    call.pass(5000);
    assert_eq!(call.transcript_so_far()[0].0, User);
    assert_eq!(call.texts_heard(), ["All right."]);
}

#[test]
fn a_phrase_that_cannot_even_be_synthesised_is_given_up() {
    let mut call = Call::without_phrases(&settings("{}"));
    call.tts.failures = u32::MAX;
    asked(&mut call);
    call.pass(20_000);
    assert_eq!(
        call.ended.map(|(_, reason, _)| reason),
        Some(EndedReason::InternalError)
    );
}

#[test]
fn soft_words_that_cannot_be_made_out_are_asked_for_again() {
    let mut call = quiet_call();
    call.pass(500);
    call.sound(0, "Oh, I'm getting full.", 900, (0.7, -1.5, 0.4));
    call.pass(6000);
    assert_eq!(call.texts_heard(), [MISSED]);
}

#[test]
fn a_noise_that_never_stops_is_not_asked_to_repeat_itself_for_ever() {
    let mut call = quiet_call();
    call.pass(500);
    for after in 0..6 {
        call.sound(after * 6000, "", 1200, (0.95, -0.3, 0.4));
    }
    call.pass(36_000);
    assert_eq!(
        call.texts_heard()
            .iter()
            .filter(|text| **text == MISSED)
            .count(),
        2
    );
}

#[test]
fn a_reply_that_is_all_silence_gets_an_apology() {
    let mut call = quiet_call();
    call.tts.hangs = true;
    asked(&mut call);
    call.pass(1000);
    let speak = call.outputs.iter().find_map(|(_, output)| match output {
        Output::Speak {
            generation, clause, ..
        } => Some((*generation, *clause)),
        _ => None,
    });
    let (generation, clause) = speak.unwrap();
    let length = ClipLength {
        samples: 0,
        audible_from: 0,
    };
    call.handle(Input::ClauseReady {
        generation,
        clause,
        length,
    });
    call.pass(3000);
    assert_eq!(call.texts_heard(), [APOLOGY]);
}
