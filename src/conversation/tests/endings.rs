//! How calls end, and what happens when nobody speaks.

use super::super::*;
use super::call::*;
use crate::record::Role::{Bot, User};
use crate::record::{EndedBy, EndedReason};

const GOODBYES: &str = r#"{"endCallPhrases": ["goodbye", "have a nice day"],
                           "endCallMessage": "Thanks for calling."}"#;

#[test]
fn the_call_ends_after_the_assistant_said_goodbye_and_was_heard() {
    let mut call = Call::new(&settings(GOODBYES));
    call.pass(500);
    call.model_says("Then have a nice day!");
    call.says("That was all.", 800);
    call.pass(6000);
    let heard = call.heard.last().unwrap();
    assert_eq!(
        (heard.text.as_str(), heard.played),
        ("Then have a nice day!", heard.length)
    );
    let (at, reason, by) = call.ended.unwrap();
    assert_eq!(
        (reason, by),
        (EndedReason::AssistantSaidEndCallPhrase, EndedBy::Assistant)
    );
    assert!(
        (280..=360).contains(&(at - heard.to)),
        "a short tail after the last word"
    );
    assert!(
        call.messages()
            .iter()
            .any(|message| message.message == "Then have a nice day!")
    );
}

#[test]
fn a_goodbye_that_was_cut_off_ends_nothing() {
    let mut call = Call::new(&settings(GOODBYES));
    call.pass(500);
    call.model_says("I am glad that I could help you with all of this today. Goodbye!");
    call.says("That was all.", 800);
    while !call.is_speaking() {
        call.pass(20);
    }
    call.pass(300);
    call.says("Wait, one more thing.", 1300);
    call.pass(5000);
    assert_eq!(call.ended, None);
}

#[test]
fn a_caller_who_says_goodbye_and_nothing_else_hears_the_end_call_message() {
    let mut call = Call::new(&settings(GOODBYES));
    call.pass(500);
    call.says("Goodbye!", 600);
    call.pass(5000);
    assert_eq!(call.texts_heard(), ["Thanks for calling."]);
    let (_, reason, by) = call.ended.unwrap();
    assert_eq!(
        (reason, by),
        (EndedReason::AssistantSaidEndCallPhrase, EndedBy::Assistant)
    );
    assert_eq!(
        call.transcript_so_far(),
        [(User, "Goodbye!"), (Bot, "Thanks for calling.")]
    );
    assert_eq!(call.turns().len(), 1);
}

#[test]
fn without_an_end_call_message_the_model_says_goodbye_back() {
    let mut call = Call::new(&settings(r#"{"endCallPhrases": ["goodbye"]}"#));
    call.pass(500);
    call.model_says("Bye now.");
    call.says("Goodbye!", 600);
    call.pass(5000);
    assert_eq!(call.texts_heard(), ["Bye now."]);
    assert!(call.ended.is_some());
}

#[test]
fn a_goodbye_in_the_middle_of_a_callers_sentence_ends_nothing() {
    let mut call = Call::new(&settings(GOODBYES));
    call.pass(500);
    call.says("She said goodbye to me.", 1000);
    call.pass(5000);
    assert_eq!(call.ended, None);
}

#[test]
fn silence_is_asked_into_and_then_ends_the_call() {
    let plan = r#"{"firstMessage": "Hi.", "endCallMessage": "Goodbye.", "silenceTimeoutSeconds": 25,
                   "messagePlan": {"idleMessages": ["Still there?", "Hello?"], "idleTimeoutSeconds": 7}}"#;
    let mut call = Call::new(&settings(plan));
    call.pass(40_000);
    assert_eq!(
        call.texts_heard(),
        ["Hi.", "Still there?", "Hello?", "Still there?", "Goodbye."]
    );
    let (at, reason, by) = call.ended.unwrap();
    assert_eq!(
        (reason, by),
        (EndedReason::SilenceTimedOut, EndedBy::Assistant)
    );
    assert!((25_000..27_000).contains(&at), "{at}");
}

#[test]
fn idle_messages_are_said_only_so_often() {
    let plan = r#"{"silenceTimeoutSeconds": 60, "messagePlan":
                   {"idleMessages": ["Hello?"], "idleTimeoutSeconds": 2, "idleMessageMaxSpokenCount": 2}}"#;
    let mut call = Call::new(&settings(plan));
    call.pass(30_000);
    assert_eq!(call.texts_heard(), ["Hello?", "Hello?"]);
    call.says("I am here.", 800);
    call.pass(5000);
    assert_eq!(
        call.texts_heard()[2..],
        ["All right.", "Hello?"],
        "a turn starts the count anew"
    );
}

#[test]
fn noise_does_not_put_off_the_end_of_a_silence() {
    let mut call = Call::new(&settings(
        r#"{"silenceTimeoutSeconds": 10, "messagePlan": {"idleMessages": []}}"#,
    ));
    for second in 0..20 {
        call.noise(second * 1500, "", 150, 0.6);
    }
    call.pass(14_000);
    assert_eq!(
        call.ended.map(|(_, reason, _)| reason),
        Some(EndedReason::SilenceTimedOut)
    );
}

#[test]
fn talking_puts_off_the_end_of_a_silence() {
    let mut call = Call::new(&settings(
        r#"{"silenceTimeoutSeconds": 5, "messagePlan": {"idleMessages": []}}"#,
    ));
    for _ in 0..4 {
        call.pass(3000);
        call.says("I am still here.", 900);
    }
    call.pass(2000);
    assert_eq!(call.ended, None);
}

#[test]
fn a_slow_reply_is_no_silence_of_the_callers() {
    let mut call = Call::new(&settings(r#"{"silenceTimeoutSeconds": 4}"#));
    call.llm.delay = 7000;
    call.pass(500);
    call.says("Hello there.", 800);
    call.pass(9000);
    assert!(call.texts_heard().contains(&"All right."));
}

#[test]
fn the_longest_call_ends_in_mid_sentence_but_with_a_goodbye() {
    let plan = r#"{"maxDurationSeconds": 10, "endCallMessage": "Goodbye."}"#;
    let mut call = Call::new(&settings(plan));
    call.pass(8000);
    call.model_says("One two three four five six seven eight nine ten eleven twelve.");
    call.says("Count for me.", 700);
    call.pass(5000);
    assert_eq!(call.texts_heard().last(), Some(&"Goodbye."));
    let (at, reason, _) = call.ended.unwrap();
    assert_eq!(reason, EndedReason::ExceededMaxDuration);
    assert!((10_000..11_500).contains(&at), "{at}");
    let cut: Vec<_> = call.transcript_so_far();
    assert!(
        cut[1].1.starts_with("One") && !cut[1].1.contains("twelve"),
        "{cut:?}"
    );
}

#[test]
fn the_operator_ends_the_call_with_or_without_a_goodbye() {
    for (say_goodbye, texts) in [(true, vec!["Thanks for calling."]), (false, vec![])] {
        let mut call = Call::new(&settings(GOODBYES));
        call.pass(1000);
        let (reason, by) = (EndedReason::ServerShutdown, EndedBy::Operator);
        call.handle(Input::Control(Control::End {
            reason,
            by,
            say_goodbye,
        }));
        call.pass(3000);
        assert_eq!(call.texts_heard(), texts);
        assert_eq!(
            call.ended.map(|(_, reason, by)| (reason, by)),
            Some((reason, by))
        );
    }
}

#[test]
fn the_operators_last_words_end_the_call() {
    let mut call = quiet_call();
    call.pass(1000);
    let text = "We are closing now.".to_owned();
    call.handle(Input::Control(Control::Say {
        text,
        end_call_after_spoken: true,
    }));
    call.pass(4000);
    assert_eq!(call.texts_heard(), ["We are closing now."]);
    let (_, reason, by) = call.ended.unwrap();
    assert_eq!(
        (reason, by),
        (EndedReason::ManuallyCanceled, EndedBy::Operator)
    );
}

#[test]
fn the_operators_last_words_cannot_be_interrupted() {
    let mut call = quiet_call();
    call.pass(1000);
    let text = "We are closing now, so please call again tomorrow.".to_owned();
    call.handle(Input::Control(Control::Say {
        text,
        end_call_after_spoken: true,
    }));
    call.pass(500);
    call.says("But I have a question.", 1200);
    call.pass(5000);
    assert_eq!(call.stopped_at(), None);
    assert_eq!(
        call.ended.map(|(_, reason, _)| reason),
        Some(EndedReason::ManuallyCanceled)
    );
}

#[test]
fn nobody_is_heard_during_the_goodbye() {
    let mut call = Call::new(&settings(GOODBYES));
    call.pass(500);
    call.says("Goodbye!", 600);
    call.pass(700);
    call.says("Wait, no, one more thing please!", 1500);
    call.pass(3000);
    assert_eq!(call.texts_heard(), ["Thanks for calling."]);
    assert!(call.ended.is_some());
}

#[test]
fn a_hang_up_in_mid_sentence_keeps_what_was_heard() {
    let mut call = call();
    call.pass(700);
    call.handle(Input::HungUp);
    assert!(call.conversation.is_over());
    assert_eq!(call.transcript_so_far(), [(Bot, "Hello, this")]);
    assert_eq!(call.turns().len(), 1);
    assert_eq!(call.conversation.deadline(), None);
    let before = call.outputs.len();
    call.pass(5000);
    assert_eq!(call.outputs.len(), before, "nothing comes after the end");
}

#[test]
fn a_hang_up_cancels_all_work() {
    let mut call = quiet_call();
    call.pass(500);
    call.llm.delay = 3000;
    call.says("When do you open?", 900);
    call.pass(900);
    call.handle(Input::HungUp);
    let asked = call
        .outputs
        .iter()
        .rev()
        .find_map(|(_, output)| match output {
            Output::Generate { generation, .. } => Some(*generation),
            _ => None,
        });
    let cancel = Output::CancelWork {
        generation: asked.unwrap(),
    };
    assert_eq!(call.count(|output| *output == cancel), 1);
}

#[test]
fn before_the_media_starts_nothing_happens_but_the_end() {
    let now = std::time::Instant::now();
    let mut conversation = Conversation::new(&settings("{}"), PreparedPhrases::new());
    conversation.handle(Input::Digit('1'), now);
    conversation.handle(Input::Timeout, now);
    assert_eq!(conversation.poll(), None);
    assert_eq!(conversation.deadline(), None);
    let (reason, by) = (EndedReason::ServerShutdown, EndedBy::Operator);
    conversation.handle(
        Input::Control(Control::End {
            reason,
            by,
            say_goodbye: true,
        }),
        now,
    );
    assert_eq!(conversation.poll(), Some(Output::EndCall { reason, by }));
    assert!(conversation.is_over());
}
