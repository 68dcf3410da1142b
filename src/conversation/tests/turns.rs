//! Taking turns: greeting, end of turn, speculation, replies.

use super::super::*;
use super::call::*;
use crate::ids::TurnNumber;
use crate::record::Role::{Bot, User};

#[test]
fn the_greeting_plays_at_once_and_is_remembered_when_it_was_heard() {
    let mut call = call();
    call.pass(60);
    assert_eq!(call.heard_at("Hello, this is Acme."), Some(20));
    assert_eq!(call.messages().len(), 0, "not before it was heard");
    call.pass(2000);
    assert_eq!(call.transcript_so_far(), [(Bot, "Hello, this is Acme.")]);
    assert_eq!(call.turns()[0].turn, TurnNumber(0));
    assert_eq!(call.turns()[0].first_packet_ms, Some(20));
    assert_eq!(call.messages()[0].start_ms, 20);
    assert_eq!(call.messages()[0].end_ms, audio_ms("Hello, this is Acme."));
}

#[test]
fn a_greeting_that_was_not_prepared_is_synthesised() {
    let mut call =
        Call::without_phrases(&settings(r#"{"firstMessage": "Hello. How can I help?"}"#));
    call.pass(4000);
    assert_eq!(call.texts_heard(), ["Hello.", "How can I help?"]);
    assert_eq!(call.transcript_so_far(), [(Bot, "Hello. How can I help?")]);
}

#[test]
fn the_model_can_make_the_first_message() {
    let mode = r#"{"firstMessageMode": "assistant-speaks-first-with-model-generated-message",
                   "model": {"systemPrompt": "Greet."}}"#;
    let mut call = Call::new(&settings(mode));
    call.pass(3000);
    assert_eq!(
        call.last_prompt(),
        [(ChatRole::System, "Greet.".to_owned())]
    );
    assert_eq!(call.texts_heard(), ["All right."]);
    assert_eq!(call.turns()[0].turn, TurnNumber(0));
}

#[test]
fn an_assistant_that_waits_says_nothing_until_spoken_to() {
    let mode = r#"{"firstMessage": "Hi.", "firstMessageMode": "assistant-waits-for-user"}"#;
    let mut call = Call::new(&settings(mode));
    call.pass(3000);
    assert_eq!(call.texts_heard(), Vec::<&str>::new());
    call.says("Hello?", 500);
    call.pass(2000);
    assert_eq!(call.texts_heard(), ["All right."]);
}

#[test]
fn a_question_is_answered_and_both_are_remembered() {
    let mut call = call();
    call.pass(2000);
    call.model_says("We open at nine. Can I help?");
    call.says("When do you open?", 900);
    call.pass(5000);
    assert_eq!(
        call.transcript_so_far(),
        [
            (Bot, "Hello, this is Acme."),
            (User, "When do you open?"),
            (Bot, "We open at nine. Can I help?")
        ]
    );
    assert_eq!(call.texts_heard()[1..], ["We open at nine.", "Can I help?"]);
    assert_eq!(call.messages()[1].turn, TurnNumber(1));
}

#[test]
fn the_model_is_told_the_prompt_and_what_was_said() {
    let plan = r#"{"firstMessage": "Hello.", "model": {"systemPrompt": "You sell pies.",
                   "messages": [{"role": "system", "content": "Be brief."}]}}"#;
    let mut call = Call::new(&settings(plan));
    call.pass(2000);
    call.says("Do you have pies?", 900);
    call.pass(3000);
    call.says("And cakes?", 700);
    call.pass(3000);
    let expected = [
        (ChatRole::System, "You sell pies."),
        (ChatRole::System, "Be brief."),
        (ChatRole::Assistant, "Hello."),
        (ChatRole::User, "Do you have pies?"),
        (ChatRole::Assistant, "All right."),
        (ChatRole::User, "And cakes?"),
    ];
    assert_eq!(
        call.last_prompt(),
        expected.map(|(role, text)| (role, text.to_owned()))
    );
}

#[test]
fn the_beginning_of_a_long_conversation_is_told_to_the_model_as_a_summary() {
    let plan = r#"{"maxDurationSeconds": 7200, "silenceTimeoutSeconds": 600}"#;
    let mut call = Call::new(&settings(plan));
    call.pass(500);
    let long = "and some pies of every kind ".repeat(14);
    for turn in 0..12 {
        call.model_says(&format!("{long} {turn}."));
        call.says(&format!("I want {long} {turn}."), 25_000);
        call.pass(60_000);
    }
    let asked = |output: &Output| matches!(output, Output::Summarise { .. });
    assert!(call.count(asked) >= 1);
    let prompt = call.last_prompt();
    let summary = "Earlier in this call: They want pies.".to_owned();
    assert_eq!(prompt[0], (ChatRole::System, summary));
    assert!(prompt.len() < 2 * 12, "{}", prompt.len());
    let last = &prompt[prompt.len() - 1].1;
    assert!(last.ends_with("11."), "{last}");
    let bytes: usize = prompt.iter().map(|(_, words)| words.len()).sum();
    assert!(bytes < 10_000, "{bytes}");
}

#[test]
fn the_reply_is_made_during_the_silence_and_plays_when_the_turn_is_over() {
    let mut call = quiet_call();
    call.pass(1000);
    call.model_says("Yes. Of course I can do that for you.");
    call.llm.delay = 20;
    call.says("Can you help me?", 900);
    let silence = call.clock;
    call.pass(370);
    assert_eq!(
        call.generates(),
        1,
        "the model is asked before the turn is over"
    );
    assert_eq!(
        call.texts_heard(),
        Vec::<&str>::new(),
        "but nothing is heard"
    );
    assert_eq!(call.messages().len(), 0, "and nothing is remembered");
    call.pass(2000);
    let heard = call.heard_at("Yes.").unwrap() - silence;
    assert!((400..=500).contains(&heard), "{heard}");
    assert_eq!(call.generates(), 1, "the speculation was used");
    assert!(call.saw(&Progress::SpeculationKept));
}

#[test]
fn a_caller_who_goes_on_is_not_answered_in_between() {
    let mut call = quiet_call();
    call.pass(500);
    call.will_say(0, "I would like to order", 1200);
    call.will_say(1200 + 350, "two pies please.", 900);
    call.pass(6000);
    assert_eq!(
        call.transcript_so_far()[0],
        (User, "I would like to order two pies please.")
    );
    assert_eq!(call.transcript_so_far().len(), 2);
    assert!(call.transcribes() >= 2);
}

#[test]
fn speculation_on_half_a_sentence_is_cancelled_and_leaves_no_trace() {
    let mut call = quiet_call();
    call.pass(500);
    call.model_says("Pies are great.");
    call.model_says("You want two.");
    call.will_say(0, "I like pies.", 900);
    call.will_say(900 + 370, "I want two.", 800);
    call.pass(6000);
    assert_eq!(call.texts_heard(), ["You want two."]);
    assert_eq!(
        call.transcript_so_far(),
        [(User, "I like pies. I want two."), (Bot, "You want two.")]
    );
    assert!(call.wasted().is_some());
    assert!(call.count(|output| matches!(output, Output::CancelWork { .. })) > 0);
}

#[test]
fn without_speculation_nothing_is_asked_before_the_turn_is_over() {
    let mut call = Call::new(&settings(r#"{"speculationPlan": {"enabled": false}}"#));
    call.pass(500);
    call.says("When do you open?", 900);
    let silence = call.clock;
    call.pass(390);
    assert_eq!(call.transcribes(), 0);
    call.pass(3000);
    assert_eq!(call.texts_heard(), ["All right."]);
    let asked = call
        .outputs
        .iter()
        .find(|(_, out)| matches!(out, Output::Transcribe { .. }));
    assert!((400..480).contains(&(asked.unwrap().0 - silence)));
}

#[test]
fn the_transcript_is_of_the_whole_utterance_with_what_went_before() {
    let mut call = quiet_call();
    call.pass(2000);
    call.says("Hello there.", 800);
    call.pass(1000);
    let range = call.outputs.iter().find_map(|(_, output)| match output {
        Output::Transcribe { range, .. } => Some(*range),
        _ => None,
    });
    let range = range.unwrap();
    assert!((1700..=1800).contains(&range.start.time().0), "{range:?}");
    assert!((2800..=3000).contains(&range.end.time().0), "{range:?}");
}

#[test]
fn digits_with_pauses_are_one_turn() {
    let mut call = quiet_call();
    call.pass(500);
    call.will_say(0, "five five five", 1200);
    call.will_say(1200 + 900, "one two three", 1200);
    call.will_say(3300 + 900, "four five", 800);
    call.pass(9000);
    assert_eq!(
        call.transcript_so_far()[0],
        (User, "five five five one two three four five")
    );
}

#[test]
fn an_unfinished_sentence_is_waited_for() {
    let mut call = quiet_call();
    call.whole = Some(0.01);
    call.pass(500);
    call.will_say(0, "I want to speak to the", 1300);
    call.will_say(1300 + 1200, "manager.", 500);
    call.pass(6000);
    assert_eq!(
        call.transcript_so_far()[0],
        (User, "I want to speak to the manager.")
    );
}

#[test]
fn a_finished_sentence_with_a_long_pause_after_it_is_a_turn_of_its_own() {
    let mut call = quiet_call();
    call.pass(500);
    call.says("I need help.", 800);
    call.pass(4000);
    call.says("With my order.", 800);
    call.pass(4000);
    let users: Vec<_> = call
        .transcript_so_far()
        .into_iter()
        .filter(|(role, _)| *role == User)
        .collect();
    assert_eq!(users, [(User, "I need help."), (User, "With my order.")]);
}

#[test]
fn an_end_of_turn_model_can_hold_the_turn_open() {
    let mut call = quiet_call();
    call.whole = None;
    call.pass(512);
    call.says("I need help.", 800);
    call.pass(200);
    let (_, end, _) = asked_to_judge(&call)[0];
    call.handle(Input::TurnProbability {
        end,
        probability: 0.05,
    });
    call.pass(500);
    assert_eq!(call.messages().len(), 0);
    call.pass(1500);
    assert_eq!(call.transcript_so_far()[0], (User, "I need help."));
}

/// When the end-of-turn model was asked, about speech up to where, and what it was given.
fn asked_to_judge(call: &Call) -> Vec<(u64, SamplePosition, AudioRange)> {
    let asked = |(at, output): &(u64, Output)| match output {
        Output::JudgeTurn { speech_end, range } => Some((*at, *speech_end, *range)),
        _ => None,
    };
    call.outputs.iter().filter_map(asked).collect()
}

#[test]
fn the_end_of_turn_model_is_asked_once_in_every_silence_about_the_last_8_seconds() {
    let mut call = quiet_call();
    call.pass(512);
    call.says("I need", 12_000);
    let first = SamplePosition::at(CallTime(call.clock));
    call.pass(300);
    call.says("help with my order.", 800);
    call.pass(3000);
    let asked = asked_to_judge(&call);
    assert_eq!(asked.len(), 2, "{asked:?}");
    let (at, speech_end, range) = asked[0];
    let silence = CallTime(at).millis() * 8 - speech_end.0;
    assert!((1280..2240).contains(&silence), "after {silence} samples");
    assert!(speech_end.0.abs_diff(first.0) <= 512, "{asked:?}");
    assert!(range.end > speech_end && range.end.0 - range.start.0 == 64_000);
}

#[test]
fn the_ledger_has_every_part_of_the_turn_in_order() {
    let mut call = quiet_call();
    call.pass(1000);
    call.says("When do you open?", 900);
    let silence = call.clock;
    call.pass(4000);
    let ledger = call.turns()[0];
    assert_eq!(ledger.turn, TurnNumber(1));
    assert!(
        ledger.speech_ended_ms.unwrap().abs_diff(silence) <= 40,
        "{ledger:?}"
    );
    let endpoint = ledger.endpoint_ms.unwrap() - silence;
    assert!((380..450).contains(&endpoint), "{endpoint}");
    assert!(ledger.transcript_ms < ledger.first_token_ms);
    assert!(ledger.first_token_ms < ledger.first_clause_ms);
    assert!(ledger.first_clause_ms < ledger.first_audio_ms);
    assert!(ledger.first_audio_ms <= ledger.first_packet_ms);
    assert_eq!(ledger.first_packet_ms, call.heard_at("All right."));
    assert_eq!(
        (
            ledger.retries,
            ledger.holding_packet_ms,
            ledger.interrupted_ms
        ),
        (0, None, None)
    );
}

#[test]
fn the_ledger_begins_with_a_last_breath_that_comes_after_the_turn_was_judged_to_be_over() {
    let mut call = quiet_call();
    call.pass(1000);
    call.says("When do you open?", 900);
    let silence = call.clock;
    call.llm.delay = 300;
    call.noise(440, "", 20, 0.02);
    call.pass(4000);
    let ledger = call.turns()[0];
    assert!(ledger.endpoint_ms.unwrap() < silence + 440, "{ledger:?}");
    assert!(
        ledger.first_packet_ms.unwrap() > silence + 480,
        "{ledger:?}"
    );
    assert_eq!(ledger.speech_ended_ms.unwrap() - silence, 460);
}

#[test]
fn clauses_play_in_order_and_without_a_gap() {
    let mut call = quiet_call();
    call.pass(500);
    call.model_says("First we meet. Then we talk a while. At last we part. And that is all.");
    call.says("Tell me.", 600);
    call.pass(9000);
    let texts = [
        "First we meet.",
        "Then we talk a while.",
        "At last we part.",
        "And that is all.",
    ];
    assert_eq!(call.texts_heard(), texts);
    for pair in call.heard.windows(2) {
        assert_eq!(pair[1].from, pair[0].to, "{pair:?}");
    }
}

#[test]
fn numbers_are_spoken_as_words_and_remembered_as_written() {
    let mut call = quiet_call();
    call.pass(500);
    call.model_says("It costs $4.99 at 10:30 a.m. today.");
    call.says("How much is it?", 700);
    call.pass(7000);
    let spoken = "It costs four dollars and ninety nine cents at ten thirty A M today.";
    assert_eq!(call.texts_heard(), [spoken]);
    assert_eq!(
        call.transcript_so_far()[1],
        (Bot, "It costs $4.99 at 10:30 a.m. today.")
    );
}

#[test]
fn only_a_few_clauses_are_synthesised_ahead() {
    let mut call = quiet_call();
    call.pass(500);
    call.model_says(&"This is a sentence. ".repeat(30));
    call.says("Tell me a story.", 700);
    call.pass(3000);
    let asked = call.count(|output| matches!(output, Output::Speak { .. }));
    assert!(asked <= 8, "{asked}");
}

#[test]
fn half_heard_words_are_not_taken_for_all() {
    let mut call = quiet_call();
    call.pass(500);
    call.sound(0, "Why?", 700, (0.9, -1.0, 0.1));
    call.will_say(1500, "6 5", 700);
    call.pass(6000);
    assert_eq!(call.transcript_so_far()[0], (User, "Why? 6 5"));
}

#[test]
fn keys_are_a_turn_when_the_delimiter_comes() {
    let mut call = quiet_call();
    call.pass(500);
    call.presses("12#");
    call.pass(3000);
    assert_eq!(
        call.transcript_so_far(),
        [(User, "Keypad entry: 1 2"), (Bot, "All right.")]
    );
}

#[test]
fn keys_are_a_turn_after_a_pause() {
    let mut call = quiet_call();
    call.pass(500);
    call.presses("42");
    call.pass(1500);
    assert_eq!(call.messages().len(), 0);
    call.pass(2000);
    assert_eq!(call.transcript_so_far()[0], (User, "Keypad entry: 4 2"));
}

#[test]
fn an_entry_of_known_length_needs_no_delimiter_and_a_short_one_is_asked_for_again() {
    let mut call = Call::new(&settings(
        r#"{"keypadInputPlan": {"length": 4, "retries": 1, "retryMessage": "Four digits, please."}}"#,
    ));
    call.pass(500);
    call.presses("12#");
    call.pass(4000);
    assert_eq!(call.texts_heard(), ["Four digits, please."]);
    call.presses("1234");
    call.pass(3000);
    let heard = call.transcript_so_far();
    assert_eq!(
        heard[..2],
        [
            (Bot, "Four digits, please."),
            (User, "Keypad entry: 1 2 3 4")
        ]
    );
    // The next entry may be asked for again; after that the model gets what there is.
    call.pass(4000);
    call.presses("9");
    call.pass(5000);
    call.presses("98");
    call.pass(5000);
    let said = call.texts_heard();
    let asked = said.iter().filter(|text| **text == "Four digits, please.");
    assert_eq!(asked.count(), 2);
    let heard = call.transcript_so_far();
    assert!(heard.contains(&(User, "Keypad entry: 9 8")), "{heard:?}");
}

#[test]
fn keys_pressed_while_speaking_belong_to_what_is_said() {
    let mut call = quiet_call();
    call.pass(500);
    call.will_say(0, "My number is this.", 1500);
    call.pass(1000);
    call.presses("7#");
    call.pass(4000);
    assert_eq!(
        call.transcript_so_far()[0],
        (User, "My number is this. Keypad entry: 7")
    );
}

#[test]
fn a_very_long_turn_is_decoded_in_parts_and_answered_as_one() {
    let mut call = quiet_call();
    call.pass(500);
    let part = "so this is what happened to me on the way here yesterday".to_owned();
    for index in 0..8 {
        call.will_say(index * 6400, &format!("{part} {index}"), 6000);
    }
    call.pass(8 * 6400 + 4000);
    let first = call.transcript_so_far()[0];
    assert_eq!(first.0, User);
    for index in 0..8 {
        assert!(
            first.1.contains(&format!("yesterday {index}")),
            "{index}: {}",
            first.1
        );
    }
    assert_eq!(
        call.transcript_so_far()
            .iter()
            .filter(|(role, _)| *role == User)
            .count(),
        1
    );
}

#[test]
fn a_monologue_without_any_pause_is_cut_into_parts() {
    let mut call = quiet_call();
    call.pass(500);
    let words: Vec<String> = (0..120).map(|index| format!("word{index}")).collect();
    call.will_say(0, &words.join(" "), 60_000);
    call.pass(64_000);
    let said: Vec<&str> = call.transcript_so_far()[0].1.split(' ').collect();
    let missing = words
        .iter()
        .filter(|word| !said.contains(&word.as_str()))
        .count();
    assert!(missing <= 2, "{missing} words lost at the seams");
}

#[test]
fn results_of_an_old_generation_change_nothing() {
    let mut call = quiet_call();
    call.pass(500);
    call.says("Hello.", 500);
    call.pass(3000);
    let before = call.outputs.len();
    for count in 0..=call.outputs.len() as u64 {
        let generation = crate::ids::Generation::from_raw(count);
        let length = ClipLength {
            samples: 800,
            audible_from: 0,
        };
        let transcript = Transcript {
            text: "Ghost.".to_owned(),
            mean_logprob: 0.0,
            no_speech_probability: 0.0,
            repeated: false,
            language: None,
        };
        call.handle(Input::Transcript {
            generation,
            transcript,
        });
        call.handle(Input::ReplyText {
            generation,
            text: "Ghost. ".to_owned(),
        });
        call.handle(Input::ClauseReady {
            generation,
            clause: 0,
            length,
        });
        call.handle(Input::ReplyDone { generation });
        for work in [Work::Transcribe, Work::Generate, Work::Speak { clause: 0 }] {
            call.handle(Input::Failed {
                generation,
                work,
                retryable: true,
            });
        }
    }
    assert_eq!(call.outputs.len(), before);
}
