//! Calls of ours that machines and people answer. The machines are mailboxes of another Offhook,
//! with greetings as people have them; the people are recorded, or assistants who say what people
//! say.

use std::time::Duration;

use serde_json::Value;

use crate::in_peace;
use crate::support::phone::Phone;
use crate::support::record::{Record, share_understood, words};
use crate::support::server::{Server, Setup};
use crate::support::sound::write_padded;
use crate::support::{Folder, speech, until};

const MESSAGE: &str = "This is Example Limited. Please call us back about your order.";

/// Greetings of machines, by the last digits of their numbers.
const MACHINES: [(&str, &str); 6] = [
    (
        "01",
        "Hi, you've reached Ann. I can't come to the phone right now. Please leave a message \
         after the beep and I will get back to you.",
    ),
    (
        "02",
        "The person you are trying to reach is not available. At the tone, please record your \
         message.",
    ),
    (
        "03",
        "Hello. This is the Miller family. We are out in the garden or away for the weekend. We \
         will be here again on Monday and we are looking forward to hearing from you. Bye.",
    ),
    ("04", "Your call has been forwarded to voicemail."),
    ("05", "Hi, this is Bob. You know what to do."),
    (
        "06",
        "Thank you for calling the dental clinic. Our office is closed now. If this is an \
         emergency, please call the hospital. Otherwise leave your name and number.",
    ),
];

/// What people say when they answer.
const PEOPLE: [(&str, &str); 5] = [
    ("11", "Hello?"),
    ("12", "Yes, who is it?"),
    ("13", "Miller speaking."),
    (
        "14",
        "Good morning, Example Limited, this is Mary speaking. How can I help you today?",
    ),
    (
        "15",
        "Hi, sorry, I was just on the other line. Who is calling?",
    ),
];

fn others() -> Server {
    let mut file = String::from("numbers = [\n");
    for (number, _) in MACHINES {
        file += &format!("  {{ number = \"+493010{number}\", mailbox = \"m{number}\" }},\n");
    }
    file += "  { number = \"+49301007\", mailbox = \"recorded\" },\n";
    for (number, _) in PEOPLE {
        file += &format!("  {{ number = \"+493010{number}\", assistant = \"h{number}\" }},\n");
    }
    file += "]\n";
    for (number, greeting) in MACHINES {
        file += &format!("[mailboxes.m{number}]\ngreeting = \"{greeting}\"\n");
    }
    let recorded = speech("help_me");
    file += &format!(
        "[mailboxes.recorded]\ngreeting_file = \"{}\"\n",
        recorded.display()
    );
    for (number, words) in PEOPLE {
        file += &format!(
            "[assistants.h{number}]\nfirstMessage = \"{words}\"\nmaxDurationSeconds = 14\n\
             messagePlan = {{ idleMessages = [] }}\n\
             [assistants.h{number}.model]\nmaxTokens = 12\n"
        );
    }
    Setup::new("others").file(&file).start_ready()
}

fn caller(other: &str, phone: &str) -> Server {
    let file = format!(
        r#"
        [trunks.others.outbound]
        host = "{other}"
        destinations = ["+49*"]
        [trunks.phone.outbound]
        host = "{phone}"
        destinations = ["+49*"]

        [assistants.caller]
        firstMessage = "Hello, this is Example Limited."
        voicemailMessage = "{MESSAGE}"
        voicemailDetection = {{}}
        maxDurationSeconds = 16
        messagePlan = {{ idleMessages = [] }}
        [assistants.caller.model]
        maxTokens = 12
        "#
    );
    Setup::new("caller").file(&file).start_ready()
}

/// Calls a number to the end; what is kept of the call.
fn call(server: &Server, number: &str, trunk: &str) -> Record {
    let arguments = ["dial", "caller", number, "--trunk", trunk];
    let placed = server.told(&arguments);
    let id = placed["id"].as_str().expect("an id").to_owned();
    until("the end of the call", Duration::from_secs(90), || {
        let record = server.call(&id);
        (record.text("status") == "ended").then_some(record)
    })
}

fn verdict(record: &Record) -> &Value {
    &record.0["answeredBy"]
}

/// One row of the table.
fn row(kind: &str, greeting: &str, record: &Record) -> String {
    let found = verdict(record);
    let text = |key: &str| found[key].as_str().unwrap_or("-").to_owned();
    let ms = |key: &str| {
        found[key]
            .as_u64()
            .map_or("-".to_owned(), |ms| ms.to_string())
    };
    let greeting: String = greeting.chars().take(40).collect();
    format!(
        "| {kind:<9} | {greeting:<40} | {:<7} | {:<14} | {:>8} | {:>9} | {} |",
        text("who"),
        text("evidence"),
        ms("afterMs"),
        ms("messageMs"),
        record.text("endedReason"),
    )
}

#[test]
fn machines_get_a_message_after_their_beep_and_people_a_conversation() {
    let _peace = in_peace();
    let folder = Folder::new("amd");
    let recorded = folder.path().join("human.wav");
    write_padded(&speech("hi_how_are_you"), 0.6, 20.0, &recorded);
    let phone = Phone::new("human").plays(&recorded);
    let phone = phone.options(&["--hang-up-at", "12"]);
    let others = others();
    let server = caller(&others.sip, &phone.address());
    let mut table = vec![format!(
        "| {:<9} | {:<40} | {:<7} | {:<14} | {:>8} | {:>9} | ended |",
        "answered", "greeting", "verdict", "by", "after ms", "message"
    )];
    let mut wrong = Vec::new();
    let listening = phone.listen();
    let record = call(&server, "+49301021", "phone");
    table.push(row("recorded", "(a person: hi, how are you)", &record));
    if verdict(&record)["who"] != "human" {
        wrong.push("the recorded person");
    }
    drop(listening);
    for (number, greeting) in PEOPLE {
        let record = call(&server, &format!("+493010{number}"), "others");
        table.push(row("person", greeting, &record));
        if verdict(&record)["who"] != "human" || record.text("endedReason") == "voicemail" {
            wrong.push(greeting);
        }
    }
    let recorded = ("07", "(a recording, and a beep)");
    for (number, greeting) in MACHINES.into_iter().chain([recorded]) {
        let record = call(&server, &format!("+493010{number}"), "others");
        table.push(row("machine", greeting, &record));
        if verdict(&record)["who"] != "machine" || record.text("endedReason") != "voicemail" {
            wrong.push(greeting);
        }
    }
    eprintln!("{}", table.join("\n"));
    assert!(wrong.is_empty(), "{wrong:?}");

    // Every machine has the whole message.
    let left = until("the transcripts", Duration::from_secs(120), || {
        let all = others.told(&["voicemail"]);
        let all = all.as_array().expect("a list").clone();
        let done = all.iter().all(|message| message["transcript"].is_string());
        (done && all.len() == MACHINES.len() + 1).then_some(all)
    });
    for message in left {
        let heard = message["transcript"].as_str().expect("words");
        let share = share_understood(MESSAGE, &words(heard));
        eprintln!("{}: {heard}", message["mailbox"]);
        assert!(share >= 0.7, "{} has {heard:?}", message["mailbox"]);
    }
    let shown = server.call_for_people(&server.call_ids()[0]);
    assert!(shown.contains("answered   by machine"), "{shown}");
}
