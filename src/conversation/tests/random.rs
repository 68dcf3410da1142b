//! Seeded random calls: whatever happens in whatever order, the invariants hold. Those that
//! concern single outputs are checked by the driver of every test; those about whole calls here.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::*;
use super::call::*;
use crate::ids::Generation;
use crate::record::{EndedBy, EndedReason, Role};

const CALL_MS: u64 = 20_000;
const CALLS_A_TEST: u64 = 500;

const ANOTHER_LANGUAGE: SpokenLanguage = SpokenLanguage {
    expected_probability: 0.02,
    other_probability: 0.9,
};

const LINES: &[&str] = &[
    "When do you open?",
    "Yes.",
    "Mm-hmm.",
    "No.",
    "five five five one two",
    "I would like to",
    "Goodbye!",
    "Wait, stop it please.",
    "Can you tell me about the pies and the cakes you have?",
];
const ANSWERS: &[&str] = &[
    "We open at nine. And we close at five p.m. on Sundays.",
    "Yes.",
    "Goodbye!",
    "",
    "**First**, let me see. It costs $4.99, or 3.5 percent more. Is that all right for you?",
    "One two three four five six seven eight nine ten eleven twelve thirteen fourteen.",
];

fn plan(random: &mut StdRng) -> AssistantSettings {
    let num_words = if random.random_bool(0.2) { 2 } else { 0 };
    let json = format!(
        r#"{{"firstMessage": "Hello, this is Acme speaking.", "endCallPhrases": ["goodbye"],
            "firstMessageInterruptionsEnabled": {}, "silenceTimeoutSeconds": {},
            "maxDurationSeconds": {}, "endCallMessage": "Thanks for calling.",
            "speculationPlan": {{"enabled": {}}}, "failurePlan": {{"engineTimeoutSeconds": 4}},
            "stopSpeakingPlan": {{"numWords": {num_words}}},
            "messagePlan": {{"idleTimeoutSeconds": 3}}}}"#,
        random.random_bool(0.5),
        random.random_range(5..20),
        random.random_range(12..60),
        random.random_bool(0.8),
    );
    settings(&json)
}

/// Lets something happen.
fn disturb(call: &mut Call, random: &mut StdRng) {
    match random.random_range(0..24) {
        0..=7 => {
            let line = LINES[random.random_range(0..LINES.len())];
            let ms = random.random_range(100..2500);
            let after = random.random_range(0..600);
            match random.random_bool(0.2) {
                true => call.is_heard_as(after, line, ms, ANOTHER_LANGUAGE),
                false => call.will_say(after, line, ms),
            }
        }
        8 => call.noise(0, "Thank you.", random.random_range(40..900), 0.6),
        9 => call.stt.failures = random.random_range(0..3),
        10 => call.llm.failures = random.random_range(0..3),
        11 => call.tts.failures = random.random_range(0..3),
        12 => {
            let hangs = random.random_bool(0.3);
            match random.random_range(0..3) {
                0 => call.stt.hangs = hangs,
                1 => call.llm.hangs = hangs,
                _ => call.tts.hangs = hangs,
            }
        }
        13 => {
            call.stt.delay = random.random_range(0..2500);
            call.llm.delay = random.random_range(0..4500);
            call.tts.delay = random.random_range(0..1500);
        }
        14 => call.breaks_off_after = Some(random.random_range(0..12)),
        15 => {
            let key = ['1', '9', '*', '#', 'x'][random.random_range(0..5)];
            call.handle(Input::Digit(key));
        }
        16 => call.handle(Input::Control(Control::Hold)),
        17 => call.handle(Input::Control(Control::Resume)),
        18 => call.handle(Input::Control(Control::TakeBack)),
        19 if random.random_bool(0.2) => match random.random_bool(0.4) {
            true => call.handle(Input::Control(Control::Transfer)),
            false => call.handle(Input::Control(Control::ComeBack(NotThrough::Failed))),
        },
        19 => {
            let say = Control::Say {
                text: "The operator speaks. Listen.".to_owned(),
                end_call_after_spoken: random.random_bool(0.1),
            };
            call.handle(Input::Control(say));
        }
        20 => {
            let engine = [Engine::Stt, Engine::Llm, Engine::Tts][random.random_range(0..3)];
            call.handle(Input::EngineState {
                engine,
                up: random.random_bool(0.7),
            });
        }
        21 => stale(call, random),
        22 if random.random_bool(0.05) => {
            let (reason, by) = (EndedReason::ServerShutdown, EndedBy::Operator);
            let say_goodbye = random.random_bool(0.5);
            call.handle(Input::Control(Control::End {
                reason,
                by,
                say_goodbye,
            }));
        }
        23 if random.random_bool(0.05) => call.handle(Input::HungUp),
        _ => {}
    }
}

/// An answer to something that was asked long ago, or never.
fn stale(call: &mut Call, random: &mut StdRng) {
    let generation = Generation::from_raw(random.random_range(0..40));
    let asked = call.count(|output| match output {
        Output::Transcribe {
            generation: own, ..
        }
        | Output::Generate {
            generation: own, ..
        }
        | Output::Speak {
            generation: own, ..
        } => *own == generation,
        _ => false,
    });
    let cancelled = call.count(|output| *output == Output::CancelWork { generation });
    if asked > 0 && cancelled == 0 {
        // It may be waited for: an answer would be the answer.
        return;
    }
    let text = "Ghost. ".to_owned();
    let transcript = Transcript {
        text: text.clone(),
        mean_logprob: 0.0,
        no_speech_probability: 0.0,
        repeated: false,
        language: None,
    };
    let length = ClipLength {
        samples: 8000,
        audible_from: 0,
    };
    let clip = ClipId::Clause {
        generation,
        clause: 0,
    };
    let at = CallTime(call.clock);
    call.handle(Input::Transcript {
        generation,
        transcript,
    });
    call.handle(Input::ReplyText { generation, text });
    call.handle(Input::ReplyDone { generation });
    call.handle(Input::ClauseReady {
        generation,
        clause: 0,
        length,
    });
    call.handle(Input::Failed {
        generation,
        work: Work::Generate,
        retryable: true,
    });
    call.handle(Input::Playback {
        clip,
        played: 4000,
        at,
    });
}

fn random_call(seed: u64) -> Call {
    let mut random = StdRng::seed_from_u64(seed);
    let plan = plan(&mut random);
    let mut call = if random.random_bool(0.85) {
        Call::new(&plan)
    } else {
        Call::without_phrases(&plan)
    };
    for _ in 0..40 {
        call.model_says(ANSWERS[random.random_range(0..ANSWERS.len())]);
    }
    while call.clock < CALL_MS && !call.conversation.is_over() {
        disturb(&mut call, &mut random);
        call.pass(random.random_range(1..700));
    }
    // Whatever is wrong, it passes, and every call ends.
    for engine in [Engine::Stt, Engine::Llm, Engine::Tts] {
        call.handle(Input::EngineState { engine, up: true });
    }
    for behaviour in [&mut call.stt, &mut call.llm, &mut call.tts] {
        behaviour.hangs = false;
        behaviour.failures = 0;
    }
    for behaviour in [&mut call.stt, &mut call.llm, &mut call.tts] {
        behaviour.delay = 100;
    }
    call.breaks_off_after = None;
    call.handle(Input::Control(Control::Resume));
    call
}

/// After all that, the conversation still works: a question gets an answer, or the call ends.
fn recovers(call: &mut Call) {
    call.pass(10_000);
    // Whoever was put through meanwhile is taken back.
    call.handle(Input::Control(Control::Resume));
    call.pass(10_000);
    let before = call.heard.len();
    call.model_next("This is the answer.");
    call.says("Are you quite all right now my friend?", 1800);
    call.pass(6000);
    let answered = call.texts_heard()[before..].contains(&"This is the answer.");
    assert!(
        answered || call.conversation.is_over(),
        "{:?}",
        call.texts_heard()
    );
    call.pass(60_000);
}

fn check(call: &Call) {
    assert!(call.conversation.is_over(), "the call ends");
    assert_eq!(call.conversation.deadline(), None, "and leaves no timer");
    check_turns(call);
    check_memory(call);
    let text = format!("{:?}", call.outputs);
    assert!(!text.contains("Ghost"), "an old generation had its way");
}

/// Every committed turn ended in audio, in an explanation, or with the caller or the call.
fn check_turns(call: &Call) {
    let ledgers: BTreeMap<_, _> = call
        .turns()
        .iter()
        .map(|ledger| (ledger.turn, *ledger))
        .collect();
    assert_eq!(ledgers.len(), call.turns().len(), "one ledger a turn");
    let last = ledgers.keys().next_back().copied();
    for message in call.messages() {
        assert!(message.start_ms <= message.end_ms);
        let Some(ledger) = ledgers.get(&message.turn) else {
            panic!("turn {:?} has no ledger", message.turn);
        };
        let answered = ledger.first_packet_ms.is_some()
            || ledger.holding_packet_ms.is_some()
            || ledger.interrupted_ms.is_some();
        let was_last = Some(message.turn) == last;
        assert!(
            message.role != Role::User || answered || was_last,
            "{ledger:?}"
        );
    }
}

/// The assistant's messages hold nothing that was not played.
fn check_memory(call: &Call) {
    let mut played = String::new();
    for heard in &call.heard {
        played.push_str(&heard.text);
        played.push(' ');
    }
    let letters = |text: &str| {
        text.chars()
            .filter(|letter| letter.is_alphanumeric())
            .count()
    };
    let remembered: usize = call
        .messages()
        .iter()
        .filter(|message| message.role == Role::Bot)
        .map(|message| letters(&message.message))
        .sum();
    // Words written in figures are shorter than said, so this holds for all of them.
    let heard_ms: u64 = call.heard.iter().map(|heard| heard.to - heard.from).sum();
    let fades = call.count(|output| matches!(output, Output::StopPlayback { .. })) as u64 * 40;
    assert!(
        remembered as u64 * MS_A_LETTER <= heard_ms + fades,
        "{remembered} letters remembered, {heard_ms} ms heard: {:?} {played}",
        call.transcript_so_far()
    );
}

fn check_seeds(first: u64) {
    for seed in first..first + CALLS_A_TEST {
        let checked = std::panic::catch_unwind(|| {
            let mut call = random_call(seed);
            recovers(&mut call);
            check(&call);
        });
        assert!(checked.is_ok(), "seed {seed}");
    }
}

#[test]
fn random_calls_keep_the_invariants_1() {
    check_seeds(0);
}

#[test]
fn random_calls_keep_the_invariants_2() {
    check_seeds(10_000);
}

#[test]
fn random_calls_keep_the_invariants_3() {
    check_seeds(20_000);
}

#[test]
fn random_calls_keep_the_invariants_4() {
    check_seeds(30_000);
}

#[test]
fn the_same_call_is_the_same_conversation() {
    for seed in 0..20 {
        assert_eq!(random_call(seed).outputs, random_call(seed).outputs);
    }
}

#[test]
fn memory_stays_bounded_in_an_endless_call() {
    let plan = r#"{"maxDurationSeconds": 43200, "silenceTimeoutSeconds": 3600}"#;
    let mut call = Call::new(&settings(plan));
    for _ in 0..150 {
        call.model_says("We open at nine. And then we close at five p.m. every other day.");
        call.says(
            "Tell me all about your opening hours and your prices, please.",
            900,
        );
        call.pass(3500);
        call.outputs
            .retain(|(_, output)| matches!(output, Output::Generate { .. }));
        if call.outputs.len() > 1 {
            call.outputs.remove(0);
        }
    }
    // The conversation holds what the model is told, and little else.
    let size = format!("{:?}", call.conversation).len();
    assert!(size < 80_000, "{size}");
}

#[test]
fn no_text_of_a_model_or_a_recogniser_makes_the_words_panic() {
    const PARTS: &[&str] = &[
        "Dr",
        ".",
        " ",
        "\u{a0}",
        "5",
        ":",
        "30",
        "a.m.",
        "$",
        "(",
        ")",
        "-",
        "@",
        "x.com",
        "*",
        "_",
        "[a](b)",
        "\n",
        "```",
        "\u{1F600}",
        "\u{200D}",
        "\u{e9}",
        "\u{65e5}",
        "%",
        "1,000",
        "#",
        "/",
        "\u{b0}F",
        "<b>",
        "No",
        "1st",
        "\u{2026}",
        "!",
        "?",
        "\u{130}",
        "\u{20ac}",
        "km",
    ];
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..20_000 {
        let count = random.random_range(1..14);
        let text: String = (0..count)
            .map(|_| PARTS[random.random_range(0..PARTS.len())])
            .collect();
        let mut cutter = speech_text::ClauseCutter::new();
        let mut clauses = cutter.push(&text);
        clauses.extend(cutter.finish());
        for clause in &clauses {
            assert!(
                clause.chars().count() <= speech_text::MOST_CLAUSE,
                "{text:?}"
            );
            assert!(!speakable::speakable(clause, "en").is_empty(), "{text:?}");
        }
    }
}
