//! Hearing while the caller speaks: partial transcripts, the model's reading ahead, what a pause,
//! a breath or a long turn does to them.

use super::super::*;
use super::call::*;
use crate::record::Role::{Bot, User};

/// When the model was told to read ahead, and the last message of what it was to read.
fn read_ahead(call: &Call) -> Vec<(u64, String)> {
    let outputs = call.outputs.iter();
    outputs
        .filter_map(|(at, output)| match output {
            Output::Prefill { messages } => Some((*at, messages.last()?.content.clone())),
            _ => None,
        })
        .collect()
}

fn asked(call: &Call) -> Vec<(u64, AudioRange, Urgency)> {
    let outputs = call.outputs.iter();
    outputs
        .filter_map(|(at, output)| match output {
            Output::Transcribe { range, urgency, .. } => Some((*at, *range, *urgency)),
            _ => None,
        })
        .collect()
}

fn partials(call: &Call) -> Vec<String> {
    let outputs = call.outputs.iter();
    outputs
        .filter_map(|(_, output)| match output {
            Output::Progress(Progress::PartialTranscript(words)) => Some(words.clone()),
            _ => None,
        })
        .collect()
}

/// A call in which the assistant has been counting for a second.
fn counting() -> Call {
    let mut call = quiet_call();
    call.pass(500);
    call.model_says("One two three four five. Six seven eight nine ten. Eleven twelve.");
    call.says("Count for me.", 700);
    while !call.is_speaking() {
        call.pass(20);
    }
    call.pass(900);
    call
}

#[test]
fn the_words_so_far_are_known_while_the_caller_speaks_and_the_model_reads_them() {
    let mut call = quiet_call();
    call.pass(1000);
    call.will_say(0, "one two three four five six seven eight", 3200);
    call.pass(3200);
    let spare = |asked: &&(u64, AudioRange, Urgency)| asked.2 == Urgency::Spare;
    assert_eq!(asked(&call).iter().filter(spare).count(), 3, "one a second");
    assert_eq!(partials(&call)[0], "one two three");
    let read = read_ahead(&call);
    let stable: Vec<&str> = read.iter().map(|(_, words)| words.as_str()).collect();
    assert_eq!(stable, ["one two", "one two three"]);
    assert_eq!(call.generates(), 0, "nothing is answered before a pause");
}

#[test]
fn without_partials_nothing_is_asked_before_a_pause() {
    let plan = r#"{"speculationPlan": {"partialSeconds": 0}}"#;
    let mut call = Call::new(&settings(plan));
    call.pass(1000);
    call.says("one two three four five six seven eight", 3200);
    assert_eq!(call.transcribes(), 0);
    call.pass(4000);
    assert_eq!(read_ahead(&call), []);
    assert_eq!(call.transcript_so_far().len(), 2);
}

#[test]
fn partials_that_the_engine_has_no_time_for_change_nothing() {
    let mut call = quiet_call();
    call.stt.failures = 2;
    call.stt.retryable = false;
    call.pass(1000);
    call.will_say(0, "When do you open on Saturday morning?", 2400);
    call.pass(2400);
    assert_eq!(partials(&call), Vec::<String>::new());
    let silence = call.clock;
    call.pass(4000);
    assert_eq!(
        call.transcript_so_far(),
        [
            (User, "When do you open on Saturday morning?"),
            (Bot, "All right.")
        ]
    );
    assert!(call.heard_at("All right.").unwrap() < silence + 600);
    assert_eq!(call.turns()[0].retries, 0);
}

#[test]
fn a_partial_under_way_does_not_hold_up_the_transcript_of_the_turn() {
    let mut call = quiet_call();
    call.stt.delay = 600;
    call.pass(1000);
    // Partials are asked for after a second of speech; this ends soon after.
    call.says("When do you open today?", 1200);
    let silence = call.clock;
    call.pass(300);
    let last = *asked(&call).last().unwrap();
    assert_eq!(last.2, Urgency::Speculative);
    assert!((100..=140).contains(&(last.0 - silence)), "{last:?}");
    let cancelled = call.count(|output| matches!(output, Output::CancelWork { .. }));
    assert_eq!(cancelled, 1, "the partial");
}

#[test]
fn the_reply_is_begun_a_tenth_of_a_second_into_the_silence() {
    let mut call = quiet_call();
    call.pass(1000);
    call.says("When do you open?", 900);
    let silence = call.clock;
    call.pass(2000);
    let turn = asked(&call).last().unwrap().0 - silence;
    assert!((100..=140).contains(&turn), "{turn}");
    let ledger = call.turns()[0].clone();
    assert!(ledger.transcript_ms < ledger.endpoint_ms.map(|at| at - 100));
    assert!(ledger.first_token_ms < ledger.endpoint_ms);
}

#[test]
fn on_a_noisy_line_the_detector_says_when_the_silence_began() {
    let mut call = quiet_call();
    call.noise_dbfs = -35.0;
    call.pass(1000);
    call.says("When do you open?", 900);
    call.pass(3000);
    assert_eq!(call.transcript_so_far().len(), 2);
    let ledger = call.turns()[0].clone();
    assert_eq!(ledger.retries, 0);
}

#[test]
fn a_click_after_the_words_keeps_the_reply_that_was_begun() {
    let mut call = quiet_call();
    call.pass(1000);
    call.says("When do you open?", 900);
    // Long enough for the detector, and nothing that the recogniser writes down.
    call.sound(250, "", 130, (0.9, -0.2, 0.1));
    call.pass(4000);
    assert_eq!(call.generates(), 1, "nothing was thrown away");
    assert!(call.saw(&Progress::SpeculationKept));
    assert_eq!(call.wasted(), None);
    assert_eq!(
        call.transcript_so_far(),
        [(User, "When do you open?"), (Bot, "All right.")]
    );
}

#[test]
fn a_word_more_throws_the_reply_away_that_was_begun() {
    let mut call = quiet_call();
    call.pass(1000);
    call.model_says("At nine.");
    call.model_says("At ten.");
    call.says("When do you open?", 900);
    call.will_say(260, "Sunday?", 320);
    call.pass(4000);
    assert_eq!(call.texts_heard(), ["At ten."]);
    assert!(call.wasted().is_some());
    assert_eq!(
        call.transcript_so_far()[0],
        (User, "When do you open? Sunday?")
    );
}

#[test]
fn of_a_long_turn_with_pauses_only_the_last_part_is_transcribed_at_its_end() {
    let mut call = quiet_call();
    call.pass(500);
    call.will_say(0, "I have been thinking about all of these pies and", 6000);
    call.will_say(6000 + 380, "then of course about the cakes because", 4000);
    call.will_say(10_380 + 300, "it is my birthday.", 1200);
    call.pass(14_500);
    let last = asked(&call).last().unwrap().1;
    assert!(last.samples() < 8 * 6500, "{last:?}");
    assert_eq!(
        call.transcript_so_far()[0].1,
        "I have been thinking about all of these pies and \
         then of course about the cakes because it is my birthday."
    );
    assert!(partials(&call).last().unwrap().starts_with("I have been"));
}

#[test]
fn after_its_own_words_the_model_reads_what_the_next_turn_will_begin_with() {
    let mut call = quiet_call();
    call.pass(500);
    call.says("When do you open?", 900);
    call.pass(5000);
    let read = read_ahead(&call);
    assert_eq!(read.last().map(|(_, words)| words.as_str()), Some(""));
    let said = call.heard_at("All right.").unwrap() + audio_ms("All right.");
    assert!(read.last().unwrap().0 + 20 >= said);
}

#[test]
fn two_words_are_enough_to_tell_an_interruption_while_it_is_spoken() {
    let mut call = counting();
    let began = call.clock;
    call.says("I want something else entirely today please.", 2600);
    let yielded = call.outputs.iter().find_map(|(at, output)| match output {
        Output::Progress(Progress::UserInterrupted { .. }) => Some(*at - began),
        _ => None,
    });
    assert!(yielded.is_some_and(|after| after < 1000), "{yielded:?}");
}

#[test]
fn a_long_acknowledgement_is_none() {
    let mut call = counting();
    call.says("Right, okay, yeah.", 900);
    call.pass(9000);
    assert!(!call.messages()[1].interrupted);
    assert_eq!(call.generates(), 1);
}

#[test]
fn a_caller_who_was_cut_short_is_given_more_time_after_that() {
    let mut call = quiet_call();
    call.pass(1000);
    call.says("I need help.", 800);
    while !call.is_speaking() {
        call.pass(20);
    }
    // They had not finished.
    call.says("With my last order, I mean.", 1500);
    call.pass(5000);
    call.says("It has not come.", 900);
    let silence = call.clock;
    call.pass(3000);
    let last = (*call.turns().last().unwrap()).clone();
    let waited = last.endpoint_ms.unwrap() - silence;
    assert!((550..620).contains(&waited), "{waited}");
}

#[test]
fn a_full_stop_that_the_model_does_not_believe_is_waited_out() {
    let mut call = quiet_call();
    call.pass(1000);
    call.whole = Some(0.1);
    call.says("Can you help me?", 800);
    call.pass(800);
    call.whole = Some(0.8);
    call.says("With my last order?", 1000);
    let silence = call.clock;
    call.pass(3000);
    assert_eq!(
        call.transcript_so_far()[0],
        (User, "Can you help me? With my last order?")
    );
    assert_eq!(call.turns().len(), 1);
    let waited = call.turns()[0].endpoint_ms.unwrap() - silence;
    assert!((400..480).contains(&waited), "{waited}");
}

#[test]
fn without_smart_endpointing_every_full_stop_is_believed() {
    let plan = r#"{"startSpeakingPlan": {"smartEndpointingEnabled": false}}"#;
    let mut call = Call::new(&settings(plan));
    call.pass(1000);
    call.whole = Some(0.1);
    call.says("Can you help me?", 800);
    let silence = call.clock;
    call.pass(3000);
    let waited = call.turns()[0].endpoint_ms.unwrap() - silence;
    assert!((400..480).contains(&waited), "{waited}");
}

#[test]
fn a_model_that_cannot_tell_is_waited_for_until_it_writes_and_no_longer() {
    let mut call = quiet_call();
    call.pass(1000);
    call.whole = None;
    call.llm.delay = 300;
    call.says("When do you open?", 900);
    let silence = call.clock;
    call.pass(3000);
    let ledger = call.turns()[0];
    let waited = ledger.endpoint_ms.unwrap() - silence;
    assert!((400..700).contains(&waited), "{waited}");
    assert_eq!(ledger.endpoint_ms, ledger.first_token_ms);
}

#[test]
fn a_soft_digit_that_the_detector_misses_does_not_end_the_number() {
    let mut call = quiet_call();
    call.pass(1000);
    call.will_say(0, "four five six", 1200);
    call.noise(2100, "", 200, 0.3);
    call.will_say(2450, "eight nine", 700);
    call.pass(6000);
    assert_eq!(
        call.transcript_so_far()[0],
        (User, "four five six eight nine")
    );
    assert_eq!(call.turns().len(), 1);
}

#[test]
fn asked_for_a_number_a_question_that_ends_in_one_is_waited_for() {
    let mut call = Call::new(&settings(
        r#"{"firstMessage": "What is your order number?",
            "firstMessageMode": "assistant-speaks-first"}"#,
    ));
    call.pass(3000);
    call.will_say(0, "is it the one that is one two three", 1800);
    call.will_say(1800 + 900, "four five?", 600);
    call.pass(6000);
    assert_eq!(
        call.transcript_so_far()[1].1,
        "is it the one that is one two three four five?"
    );
}
