//! Callers who are passed on to somebody else.

use super::super::*;
use super::call::*;
use crate::record::Role::{Bot, User};

const TRANSFERS: &str = r#"{"transfers": [
    {"destination": {"type": "number", "number": "+4930123", "message": "I connect you to sales."},
     "phrases": ["sales", "speak to a human"], "digit": "1"},
    {"destination": {"type": "sip", "sipUri": "sip:desk@192.0.2.7"}, "digit": "0"}]}"#;

fn passed_on(call: &Call) -> Vec<TransferTo> {
    let outputs = call.outputs.iter();
    let transfers = outputs.filter_map(|(_, output)| match output {
        Output::Transfer(to) => Some(*to),
        _ => None,
    });
    transfers.collect()
}

#[test]
fn a_phrase_passes_the_caller_on_after_the_announcement() {
    let mut call = Call::new(&settings(TRANSFERS));
    call.pass(500);
    call.says("Can I speak to a human, please?", 1400);
    call.pass(6000);
    assert_eq!(call.texts_heard(), ["I connect you to sales."]);
    assert_eq!(passed_on(&call), [TransferTo::Destination(0)]);
    assert_eq!(
        call.transcript_so_far(),
        [
            (User, "Can I speak to a human, please?"),
            (Bot, "I connect you to sales.")
        ]
    );
    // On hold: nobody is asked whether they are still there, and nothing is heard.
    call.says("Hello?", 600);
    call.pass(120_000);
    assert_eq!(call.texts_heard().len(), 1);
    assert_eq!(call.ended, None);
}

#[test]
fn a_key_passes_the_caller_on_unless_it_is_part_of_an_entry() {
    let mut call = Call::new(&settings(TRANSFERS));
    call.pass(500);
    call.handle(Input::Digit('7'));
    call.handle(Input::Digit('1'));
    call.pass(6000);
    assert!(passed_on(&call).is_empty(), "7 1 is an entry");
    call.handle(Input::Digit('0'));
    call.pass(4000);
    assert_eq!(passed_on(&call), [TransferTo::Destination(1)]);
    let said = call.texts_heard();
    assert_eq!(said.last(), Some(&"One moment, I'll put you through."));
}

#[test]
fn the_announcement_cannot_be_interrupted_and_cuts_what_was_being_said() {
    let mut call = Call::new(&settings(TRANSFERS));
    call.pass(500);
    call.model_says("One two three four five six seven eight nine ten eleven twelve.");
    call.says("Count for me.", 700);
    while !call.is_speaking() {
        call.pass(20);
    }
    call.pass(300);
    call.handle(Input::Control(Control::Transfer));
    call.pass(200);
    call.says("Wait, wait, not now please.", 1200);
    call.pass(4000);
    assert_eq!(passed_on(&call), [TransferTo::Operators]);
    let said = call.texts_heard();
    assert_eq!(said.last(), Some(&"One moment, I'll put you through."));
}

#[test]
fn a_caller_who_was_not_put_through_is_told_why_and_the_conversation_goes_on() {
    let mut call = Call::new(&settings(TRANSFERS));
    call.pass(500);
    call.handle(Input::Digit('0'));
    call.pass(30_000);
    call.handle(Input::Control(Control::ComeBack(NotThrough::NoAnswer)));
    call.pass(6000);
    let heard = call.texts_heard();
    assert!(
        heard[1].starts_with("I'm sorry, nobody is answering."),
        "{heard:?}"
    );
    call.says("Then take a message.", 1000);
    call.pass(4000);
    assert_eq!(call.texts_heard().last(), Some(&"All right."));
    // The model knows what was said.
    let told = call
        .outputs
        .iter()
        .rev()
        .find_map(|(_, output)| match output {
            Output::Generate { messages, .. } => Some(messages.clone()),
            _ => None,
        });
    let told = told.expect("asked");
    assert!(
        told.iter()
            .any(|message| message.content.contains("nobody is answering")),
        "{told:?}"
    );
}

#[test]
fn the_longest_call_is_no_longer_for_being_passed_on() {
    let plan = TRANSFERS.replacen('{', r#"{"maxDurationSeconds": 60, "#, 1);
    let mut call = Call::new(&settings(&plan));
    call.pass(500);
    call.handle(Input::Digit('0'));
    call.pass(70_000);
    let (at, reason, _) = call.ended.expect("over");
    assert_eq!(reason, EndedReason::ExceededMaxDuration);
    assert!((60_000..60_100).contains(&at), "without a goodbye: {at}");
}

#[test]
fn a_caller_who_hangs_up_while_being_passed_on_is_gone() {
    let mut call = Call::new(&settings(TRANSFERS));
    call.pass(500);
    call.handle(Input::Digit('0'));
    call.pass(4000);
    call.handle(Input::HungUp);
    assert!(call.conversation.is_over());
    call.handle(Input::Control(Control::ComeBack(NotThrough::Busy)));
    call.pass(4000);
    assert_eq!(call.texts_heard().len(), 1);
}

#[test]
fn a_phrase_or_a_key_leads_to_the_mailbox_where_there_is_one() {
    const PLAN: &str = r#"{"transfers": [
        {"destination": {"type": "number", "number": "+4930123"}, "digit": "1"}],
        "mailboxPlan": {"mailbox": "office", "phrases": ["leave a message"], "digit": "9",
                        "message": "You can leave a message."}}"#;
    let mut words = Call::new(&settings(PLAN));
    words.pass(500);
    words.says("I would like to leave a message.", 1400);
    words.pass(6000);
    assert_eq!(words.texts_heard(), ["You can leave a message."]);
    assert_eq!(passed_on(&words), [TransferTo::Mailbox]);
    let mut key = Call::new(&settings(PLAN));
    key.pass(500);
    key.handle(Input::Digit('9'));
    key.pass(6000);
    assert_eq!(passed_on(&key), [TransferTo::Mailbox]);
    let nowhere = PLAN.replace("\"mailbox\": \"office\", ", "");
    let mut nowhere = Call::new(&settings(&nowhere));
    nowhere.pass(500);
    nowhere.handle(Input::Digit('9'));
    nowhere.pass(6000);
    assert!(passed_on(&nowhere).is_empty());
}
