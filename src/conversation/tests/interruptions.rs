//! The caller speaks while the assistant does.

use super::super::*;
use super::call::*;
use crate::record::Role::{Bot, User};

const STORY: &str = "One two three four five. Six seven eight nine ten. Eleven twelve thirteen.";

/// A call in which the assistant has been telling a story for `ms`.
fn telling(plan: &str, ms: u64) -> Call {
    let mut call = Call::new(&settings(plan));
    call.pass(500);
    call.model_says(STORY);
    call.says("Count for me.", 700);
    while !call.is_speaking() {
        call.pass(20);
    }
    call.pass(ms);
    call
}

#[test]
fn the_assistant_stops_within_a_third_of_a_second() {
    let mut call = telling("{}", 1000);
    let began = call.clock;
    call.says("Wait a moment please.", 1200);
    let stopped = call.stopped_at().unwrap() - began;
    assert!((200..=300).contains(&stopped), "{stopped}");
}

#[test]
fn the_assistant_speaks_low_before_it_stops_and_at_full_volume_after_a_cough() {
    let mut call = telling("{}", 1000);
    let began = call.clock;
    let ducked = |call: &Call| -> Vec<(u64, bool)> {
        let outputs = call.outputs.iter();
        outputs
            .filter_map(|(at, output)| match output {
                Output::Duck(low) => Some((*at, *low)),
                _ => None,
            })
            .collect()
    };
    call.noise(0, "", 150, 0.9);
    call.pass(1800);
    let [(low, true), (high, false)] = ducked(&call)[..] else {
        panic!("{:?}", ducked(&call));
    };
    assert!(low - began <= 120, "{}", low - began);
    assert!(high - began <= 250, "{}", high - began);
    call.says("Wait a moment please.", 1200);
    assert_eq!(
        ducked(&call).len(),
        3,
        "stopped, it is at full volume again"
    );
    assert!(call.stopped_at().is_some());
}

#[test]
fn only_the_words_that_were_heard_are_remembered() {
    let mut call = telling("{}", 1700);
    call.says("Wait, start again please.", 1200);
    call.pass(4000);
    let told = call.messages()[1].clone();
    assert_eq!(told.role, Bot);
    assert!(told.interrupted);
    // "One two three four five." takes 1440 ms, the next clause began to play.
    assert_eq!(told.message, "One two three four five. Six");
    let prompt = call.last_prompt();
    assert_eq!(
        prompt[1],
        (
            ChatRole::Assistant,
            "One two three four five. Six".to_owned()
        )
    );
    assert_eq!(
        prompt[2],
        (ChatRole::User, "Wait, start again please.".to_owned())
    );
    assert!(call.turns()[0].interrupted_ms.is_some());
}

#[test]
fn the_interruption_is_answered() {
    let mut call = telling("{}", 1000);
    call.model_says("Sure, I wait.");
    call.says("Hold on please.", 900);
    call.pass(4000);
    assert_eq!(call.texts_heard().last(), Some(&"Sure, I wait."));
    assert!(call.saw(&Progress::UserInterrupted {
        turn: crate::ids::TurnNumber(1)
    }));
}

#[test]
fn an_acknowledgement_stops_it_only_for_a_moment() {
    for words in ["Mm-hmm.", "Yeah, okay.", "Right."] {
        let mut call = telling("{}", 1000);
        call.says(words, 400);
        call.pass(8000);
        assert!(call.stopped_at().is_some());
        let told: Vec<_> = call.transcript_so_far();
        assert_eq!(told, [(User, "Count for me."), (Bot, STORY)], "{words}");
        assert!(!call.messages()[1].interrupted);
        assert_eq!(call.generates(), 1, "{words} is no turn");
    }
}

#[test]
fn speech_goes_on_where_it_stopped_and_repeats_two_words_at_most() {
    let mut call = telling("{}", 1000);
    call.says("Mm-hmm.", 400);
    call.pass(8000);
    let resumed = call
        .heard
        .iter()
        .find(|heard| heard.first_sample > 0)
        .unwrap();
    assert_eq!(resumed.text, "One two three four five.");
    let stopped = call.heard[0].played;
    assert!(resumed.first_sample <= stopped);
    let repeated_ms = u64::from(stopped - resumed.first_sample) / 8;
    assert!(repeated_ms <= 2 * 6 * MS_A_LETTER, "{repeated_ms}");
}

#[test]
fn a_yes_that_comes_before_the_end_of_the_question_is_the_answer() {
    let mut call = quiet_call();
    call.pass(500);
    call.model_says("We have apple pie. Would you like some of it?");
    call.says("What do you have?", 800);
    while call.heard_at("Would you like some of it?").is_none() {
        call.pass(20);
    }
    call.pass(900);
    call.says("Yes.", 400);
    call.pass(4000);
    assert_eq!(call.transcript_so_far()[2], (User, "Yes."));
    assert_eq!(call.texts_heard().last(), Some(&"All right."));
}

#[test]
fn a_cough_is_not_heard_at_all() {
    let mut call = telling("{}", 1000);
    call.noise(0, "", 120, 0.9);
    call.pass(8000);
    assert_eq!(call.stopped_at(), None);
    assert_eq!(call.transcribes(), 1);
    assert_eq!(call.transcript_so_far().len(), 2);
}

#[test]
fn a_noise_for_which_the_recogniser_invents_words_does_not_interrupt() {
    let mut call = telling("{}", 1000);
    call.noise(0, "Thanks for watching!", 350, 0.7);
    call.pass(8000);
    assert_eq!(
        call.transcript_so_far(),
        [(User, "Count for me."), (Bot, STORY)]
    );
    assert!(call.saw(&Progress::TranscriptRefused));
}

#[test]
fn a_long_interruption_is_one_before_its_words_are_known() {
    let mut call = telling("{}", 1000);
    let began = call.clock;
    call.says("Well let me tell you what I think about all of this.", 3000);
    let yielded = yielded_at(&call) - began;
    assert!(yielded <= 1100, "{yielded}");
}

/// When it was known that the assistant is interrupted.
fn yielded_at(call: &Call) -> u64 {
    let yielded = call.outputs.iter().find_map(|(at, output)| match output {
        Output::Progress(Progress::UserInterrupted { .. }) => Some(*at),
        _ => None,
    });
    yielded.expect("an interruption")
}

#[test]
fn words_that_are_hardly_made_out_interrupt_once_they_are_too_long_for_a_mm_hm() {
    let mut call = telling("{}", 1000);
    let began = call.clock;
    call.mumbles("Well let me tell you what I think.", 2000);
    let yielded = yielded_at(&call) - began;
    assert!((576..740).contains(&yielded), "{yielded}");
}

#[test]
fn the_first_words_of_an_interruption_are_glanced_at_and_no_breath_breaks_that_off() {
    let mut call = telling("{}", 1000);
    call.stt.delay = 400;
    let began = call.clock;
    call.says("I,", 300);
    call.pass(160);
    call.says("have a question.", 900);
    let glance = call.outputs.iter().find_map(|(at, output)| match output {
        Output::Transcribe {
            generation,
            urgency: Urgency::Glance,
            ..
        } if *at > began => Some(*generation),
        _ => None,
    });
    let generation = glance.expect("a glance");
    let broken_off = Output::CancelWork { generation };
    assert!(call.outputs.iter().all(|(_, output)| *output != broken_off));
    assert!(yielded_at(&call) - began <= 1000);
}

#[test]
fn a_caller_who_adds_something_before_the_reply_is_answered_once() {
    let mut call = quiet_call();
    call.llm.delay = 1500;
    call.pass(500);
    call.says("I like pies.", 700);
    call.pass(700);
    call.says("And also some cakes.", 1200);
    call.pass(6000);
    assert_eq!(call.heard.len(), 1);
    assert_eq!(
        call.last_prompt(),
        [(
            ChatRole::User,
            "I like pies. And also some cakes.".to_owned()
        )]
    );
    assert_eq!(call.turns().len(), 2);
    assert!(call.turns()[0].interrupted_ms.is_some());
}

#[test]
fn a_backchannel_while_the_assistant_thinks_does_not_stop_it() {
    let mut call = quiet_call();
    call.llm.delay = 1500;
    call.pass(500);
    call.model_says("Here you are.");
    call.says("I like pies.", 700);
    call.pass(700);
    call.says("Yeah.", 400);
    call.pass(5000);
    assert_eq!(call.texts_heard(), ["Here you are."]);
    assert_eq!(call.generates(), 1);
}

#[test]
fn a_protected_greeting_plays_to_its_end() {
    let greeting = r#"{"firstMessage": "Hello, this is a long greeting of Acme and Company."}"#;
    let mut call = Call::new(&settings(greeting));
    call.pass(500);
    call.says("Hello? Who is there?", 900);
    call.pass(4000);
    assert_eq!(call.stopped_at(), None);
    assert_eq!(
        call.messages().len(),
        1,
        "what was said beneath it is forgotten"
    );
}

#[test]
fn who_speaks_on_after_a_protected_greeting_is_heard() {
    let mut call = Call::new(&settings(r#"{"firstMessage": "Hello, this is Acme."}"#));
    call.pass(700);
    call.says("Hi, I want to order a pie.", 1500);
    call.pass(4000);
    assert_eq!(
        call.transcript_so_far()[1],
        (User, "Hi, I want to order a pie.")
    );
}

#[test]
fn a_greeting_that_is_not_protected_can_be_interrupted() {
    let mut call = call();
    call.pass(500);
    call.says("I want to order a pie.", 1300);
    call.pass(4000);
    assert_eq!(call.transcript_so_far()[0], (Bot, "Hello, this"));
    assert_eq!(
        call.last_prompt()[0],
        (ChatRole::Assistant, "Hello, this".to_owned())
    );
}

#[test]
fn nothing_is_said_before_the_backoff_is_over() {
    let plan = r#"{"stopSpeakingPlan": {"backoffSeconds": 4}}"#;
    let mut call = telling(plan, 1000);
    let began = call.clock;
    call.model_says("Yes?");
    call.says("Stop it please.", 700);
    call.pass(6000);
    let answered = call.heard_at("Yes?").unwrap() - began;
    assert!((4150..4500).contains(&answered), "{answered}");
}

#[test]
fn with_num_words_a_single_word_does_not_interrupt() {
    let plan = r#"{"stopSpeakingPlan": {"numWords": 3}}"#;
    let mut call = telling(plan, 500);
    call.says("Pies.", 500);
    call.pass(8000);
    assert_eq!(call.stopped_at(), None);
    assert_eq!(
        call.transcript_so_far(),
        [(User, "Count for me."), (Bot, STORY)]
    );
}

#[test]
fn with_num_words_enough_words_interrupt_while_they_are_spoken() {
    let plan = r#"{"stopSpeakingPlan": {"numWords": 3}}"#;
    let mut call = telling(plan, 500);
    let began = call.clock;
    call.says("Please tell me about your pies now.", 2500);
    let stopped = call.stopped_at().unwrap() - began;
    assert!(stopped < 2000, "{stopped}");
    call.pass(3000);
    assert_eq!(
        call.transcript_so_far()[2],
        (User, "Please tell me about your pies now.")
    );
}

#[test]
fn with_num_words_an_interruption_phrase_is_enough() {
    let plan = r#"{"stopSpeakingPlan": {"numWords": 3}}"#;
    let mut call = telling(plan, 500);
    call.says("Stop!", 500);
    call.pass(3000);
    assert!(call.stopped_at().is_some());
    assert!(call.messages()[1].interrupted);
}

#[test]
fn a_key_interrupts() {
    let mut call = telling("{}", 1000);
    call.presses("5#");
    call.pass(3000);
    assert!(call.stopped_at().is_some());
    assert_eq!(call.transcript_so_far()[2], (User, "Keypad entry: 5"));
}

#[test]
fn a_key_during_a_protected_greeting_is_kept_for_after_it() {
    let mut call = Call::new(&settings(r#"{"firstMessage": "Hello, this is Acme."}"#));
    call.pass(300);
    call.presses("5#");
    call.pass(4000);
    assert_eq!(call.stopped_at(), None);
    assert_eq!(
        call.transcript_so_far(),
        [
            (Bot, "Hello, this is Acme."),
            (User, "Keypad entry: 5"),
            (Bot, "All right.")
        ]
    );
}

#[test]
fn an_interruption_whose_transcript_never_comes_ends_by_itself() {
    let mut call = telling("{}", 1000);
    call.stt.hangs = true;
    call.says("Hm hm.", 500);
    call.pass(4500);
    assert!(
        call.heard.iter().any(|heard| heard.first_sample > 0),
        "it goes on"
    );
}

#[test]
fn on_hold_nothing_plays_and_no_timer_runs() {
    let mut call = telling("{}", 1000);
    call.handle(Input::Control(Control::Hold));
    let heard = call.heard.len();
    call.pass(120_000);
    assert_eq!(call.heard.len(), heard);
    assert_eq!(
        call.ended, None,
        "neither silence nor duration counts on hold"
    );
    assert_eq!(call.conversation.deadline(), None);
    call.handle(Input::Control(Control::Resume));
    call.pass(8000);
    assert_eq!(call.transcript_so_far()[1], (Bot, STORY));
}

#[test]
fn a_caller_taken_back_is_thanked_and_then_hears_what_was_being_said() {
    let mut call = quiet_call();
    call.pass(500);
    call.model_says("We are open from nine to five.");
    call.says("When do you open?", 900);
    while !call.is_speaking() {
        call.pass(20);
    }
    call.pass(300);
    call.handle(Input::Control(Control::Hold));
    call.pass(60_000);
    let before = call.texts_heard().len();
    call.handle(Input::Control(Control::TakeBack));
    call.pass(6000);
    assert_eq!(
        call.texts_heard()[before..],
        ["Thank you for waiting.", "We are open from nine to five."]
    );
    // Taken back from no hold, nobody is thanked.
    call.handle(Input::Control(Control::TakeBack));
    call.pass(3000);
    assert_eq!(call.texts_heard().len(), before + 2);
}

#[test]
fn a_caller_who_was_held_in_a_silence_is_thanked_and_listened_to() {
    let mut call = quiet_call();
    call.pass(1000);
    call.handle(Input::Control(Control::Hold));
    call.says("Is anybody there?", 900);
    call.pass(20_000);
    call.handle(Input::Control(Control::TakeBack));
    call.pass(3000);
    assert_eq!(call.texts_heard(), ["Thank you for waiting."]);
    call.says("Hello again.", 800);
    call.pass(3000);
    assert_eq!(call.texts_heard(), ["Thank you for waiting.", "All right."]);
}

#[test]
fn speech_on_hold_is_not_heard() {
    let mut call = quiet_call();
    call.pass(500);
    call.handle(Input::Control(Control::Hold));
    call.says("We talk among ourselves.", 2000);
    call.pass(2000);
    call.handle(Input::Control(Control::Resume));
    call.pass(3000);
    assert_eq!(call.transcribes(), 0);
}

#[test]
fn the_operator_speaks_after_the_assistant() {
    let mut call = telling("{}", 500);
    let say = Control::Say {
        text: "This is the operator.".to_owned(),
        end_call_after_spoken: false,
    };
    call.handle(Input::Control(say));
    call.pass(9000);
    assert_eq!(call.texts_heard().last(), Some(&"This is the operator."));
    assert_eq!(call.messages()[1].message, STORY);
    call.says("Who was that?", 800);
    call.pass(2000);
    assert!(call.last_prompt()[1].1.ends_with("This is the operator."));
}
