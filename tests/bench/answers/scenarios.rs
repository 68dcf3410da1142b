//! What the worker promises, checked against the real one. Each scenario is a call or a few.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use offhook::engines::llm::{
    ChatMessage, ChatRole, GenerateRequest, GenerateSettings, Llm, LlmWorkerSettings,
};
use offhook::engines::supervisor::{WorkerSpec, WorkerState};
use offhook::engines::{EngineError, EngineEvent, FinishReason, Priority, ReplyUsage};
use offhook::ids::{CallId, Generation};
use tokio::sync::mpsc;

type Outcome = Result<(), Box<dyn Error>>;

/// A reply as the call sees it.
struct Reply {
    text: String,
    finish: FinishReason,
    usage: ReplyUsage,
}

pub(crate) async fn run(spec: WorkerSpec, settings: LlmWorkerSettings) -> Outcome {
    let missing = LlmWorkerSettings {
        model: "no-such-model.gguf".into(),
        ..settings.clone()
    };
    a_missing_model_is_named(spec.clone(), &missing).await?;
    let small = LlmWorkerSettings {
        conversation_tokens: 512,
        ..settings
    };
    let llm = Llm::start(spec, &small)?;
    llm.ready().await?;
    instructions_are_read_once(&llm).await?;
    the_next_turn_reads_only_its_words(&llm).await?;
    words_read_ahead_are_not_read_again(&llm).await?;
    callers_at_once_get_their_own_answers(&llm).await?;
    a_cancelled_reply_stops(&llm).await?;
    a_newer_request_ends_the_older_one(&llm).await?;
    a_long_history_loses_its_oldest_messages(&llm).await?;
    a_message_that_cannot_fit_is_refused(&llm).await?;
    limits_and_stop_texts_end_a_reply(&llm).await?;
    other_seeds_write_other_replies(&llm).await?;
    more_callers_than_sequences_are_all_answered(&llm).await?;
    a_killed_worker_comes_back_with_its_instructions(&llm).await?;
    llm.shutdown().await;
    println!("all scenarios hold");
    Ok(())
}

fn instructions() -> ChatMessage {
    let facts = "You are the receptionist of a hotel. Breakfast is at 7 AM. The pool is on the \
                 roof. A room costs 90 dollars. The manager is Nora Vance. Answer in one short \
                 sentence.";
    ChatMessage::new(ChatRole::System, facts)
}

fn conversation(said: &[&str]) -> Vec<ChatMessage> {
    let roles = [ChatRole::User, ChatRole::Assistant].into_iter().cycle();
    let said = said
        .iter()
        .zip(roles)
        .map(|(text, role)| ChatMessage::new(role, *text));
    [instructions()].into_iter().chain(said).collect()
}

fn call(number: u8) -> CallId {
    CallId::from_random([number; 16])
}

fn request(number: u8, messages: Vec<ChatMessage>, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        generation: Generation::from_raw(u64::from(number)),
        call: call(number),
        priority: Priority::Waiting,
        messages,
        settings: GenerateSettings {
            max_tokens,
            ..GenerateSettings::default()
        },
        seed: 1,
    }
}

async fn ask(llm: &Llm, request: GenerateRequest) -> Result<Reply, EngineError> {
    let (events, mut received) = mpsc::channel(64);
    let _handle = llm.generate(request, events)?;
    let mut reply = String::new();
    loop {
        match received.recv().await {
            Some(EngineEvent::ReplyText { text, .. }) => reply.push_str(&text),
            Some(EngineEvent::ReplyDone { finish, usage, .. }) => {
                return Ok(Reply {
                    text: reply,
                    finish,
                    usage,
                });
            }
            Some(EngineEvent::ReplyFailed { error, .. }) => return Err(error),
            Some(
                EngineEvent::SentenceEnds { .. }
                | EngineEvent::Transcript { .. }
                | EngineEvent::Speech { .. }
                | EngineEvent::FellBack { .. },
            ) => {}
            None => return Err(EngineError::Cancelled),
        }
    }
}

/// Waits until the worker has nothing to do.
async fn settled(llm: &Llm) {
    loop {
        let now = llm.snapshot();
        if now.queued + now.in_flight == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn check(holds: bool, what: impl Into<String>) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(what.into().into())
    }
}

async fn a_missing_model_is_named(spec: WorkerSpec, settings: &LlmWorkerSettings) -> Outcome {
    let llm = Llm::start(spec, settings)?;
    let error = llm.ready().await.err();
    let named = matches!(&error, Some(EngineError::ModelMissing { detail })
        if detail.contains("no-such-model.gguf"));
    llm.shutdown().await;
    check(named, format!("missing model: {error:?}"))
}

async fn instructions_are_read_once(llm: &Llm) -> Outcome {
    let read = llm.warm(vec![instructions()]).await?.usage;
    let again = llm.warm(vec![instructions()]).await?.usage;
    let reply = ask(llm, request(1, conversation(&["When is breakfast?"]), 40)).await?;
    check(
        read.prompt_tokens > 40 && read.cached_tokens == 0,
        format!("first: {read:?}"),
    )?;
    check(
        again.cached_tokens == again.prompt_tokens,
        format!("again: {again:?}"),
    )?;
    let cached = reply.usage.cached_tokens;
    check(
        cached >= read.prompt_tokens - 2,
        format!("a call: {:?}", reply.usage),
    )?;
    check(reply.text.contains('7'), reply.text)
}

async fn the_next_turn_reads_only_its_words(llm: &Llm) -> Outcome {
    let question = "Who is the manager of this hotel, and how long has she worked here?";
    let first = ask(llm, request(2, conversation(&[question]), 40)).await?;
    let next = conversation(&[question, &first.text, "Where is the pool?"]);
    let second = ask(llm, request(2, next, 40)).await?.usage;
    let new = second.prompt_tokens - second.cached_tokens;
    // Nine of the question, eight around it, and at most a few of the reply's end.
    check(new <= 22, format!("second turn: {second:?}"))?;
    // The caller broke in after two words: the rest of the reply was not heard.
    let heard: String = first.text.split_inclusive(' ').take(2).collect();
    let cut = conversation(&[question, heard.trim_end(), "Where is the pool?"]);
    let third = ask(llm, request(2, cut, 40)).await?;
    check(
        third.usage.cached_tokens >= first.usage.prompt_tokens - 1,
        "cut history",
    )?;
    check(third.text.contains("roof"), third.text)
}

async fn words_read_ahead_are_not_read_again(llm: &Llm) -> Outcome {
    let said = conversation(&["What does a room cost?"]);
    let _ahead = llm.prefill(call(3), said.clone())?;
    settled(llm).await;
    let reply = ask(llm, request(3, said, 40)).await?;
    let usage = reply.usage;
    check(
        usage.cached_tokens + 1 == usage.prompt_tokens,
        format!("{usage:?}"),
    )?;
    check(reply.text.contains("90"), reply.text)
}

async fn callers_at_once_get_their_own_answers(llm: &Llm) -> Outcome {
    let cases = [
        ("When is breakfast?", "7"),
        ("Where is the pool?", "roof"),
        ("What does a room cost?", "90"),
    ];
    let asked: Vec<_> = cases
        .into_iter()
        .zip(10..)
        .map(|((question, answer), number)| {
            let llm = llm.clone();
            let task = tokio::spawn(async move {
                ask(&llm, request(number, conversation(&[question]), 40)).await
            });
            (task, answer)
        })
        .collect();
    for (task, answer) in asked {
        let reply = task.await??;
        check(
            reply.text.contains(answer),
            format!("{answer}: {}", reply.text),
        )?;
    }
    Ok(())
}

async fn a_cancelled_reply_stops(llm: &Llm) -> Outcome {
    let (events, mut received) = mpsc::channel(64);
    let long = conversation(&["Tell me a very long story about the hotel."]);
    let handle = llm.generate(request(4, long, 400), events)?;
    received.recv().await.ok_or("no text")?;
    handle.cancel();
    while let Some(event) = received.recv().await {
        check(
            matches!(event, EngineEvent::ReplyText { .. }),
            "an end after the cancellation",
        )?;
    }
    settled(llm).await;
    Ok(())
}

async fn a_newer_request_ends_the_older_one(llm: &Llm) -> Outcome {
    let (events, mut received) = mpsc::channel(64);
    let long = conversation(&["Tell me a very long story about the hotel."]);
    let _older = llm.generate(request(5, long, 400), events)?;
    received.recv().await.ok_or("no text")?;
    let newer = ask(llm, request(5, conversation(&["Where is the pool?"]), 40)).await?;
    check(newer.text.contains("roof"), newer.text)?;
    let mut ended = false;
    while let Some(event) = received.recv().await {
        ended |= matches!(event, EngineEvent::ReplyDone { .. });
    }
    check(!ended, "the older reply was written to its end")
}

async fn a_long_history_loses_its_oldest_messages(llm: &Llm) -> Outcome {
    let remark = "Well, let me think about that for a little while, because I am not sure.";
    let mut said = vec![remark; 60];
    said.push("Where is the pool?");
    let reply = ask(llm, request(6, conversation(&said), 40)).await?;
    let fits = reply.usage.prompt_tokens <= 512 - 40 && reply.usage.prompt_tokens > 200;
    check(fits, format!("{:?}", reply.usage))?;
    check(reply.text.contains("roof"), reply.text)
}

async fn a_message_that_cannot_fit_is_refused(llm: &Llm) -> Outcome {
    let endless = "really ".repeat(2000);
    let refused = ask(llm, request(7, conversation(&[&endless]), 40))
        .await
        .err();
    check(
        matches!(refused, Some(EngineError::BadInput { .. })),
        format!("{refused:?}"),
    )?;
    let nothing = ask(llm, request(7, vec![instructions()], 40)).await.err();
    check(
        matches!(nothing, Some(EngineError::BadInput { .. })),
        format!("{nothing:?}"),
    )
}

async fn limits_and_stop_texts_end_a_reply(llm: &Llm) -> Outcome {
    let question = || conversation(&["What does a room cost?"]);
    let short = ask(llm, request(8, question(), 3)).await?;
    check(
        short.finish == FinishReason::Length,
        format!("{:?}", short.finish),
    )?;
    check(
        short.usage.completion_tokens == 3,
        format!("{:?}", short.usage),
    )?;
    let mut stopped = request(8, question(), 40);
    stopped.settings.stop = vec!["90".into()];
    let stopped = ask(llm, stopped).await?;
    check(
        stopped.finish == FinishReason::Stop && !stopped.text.contains("90"),
        stopped.text,
    )
}

async fn other_seeds_write_other_replies(llm: &Llm) -> Outcome {
    let mut replies = Vec::new();
    for seed in [5, 6, 7] {
        let mut drawn = request(9, conversation(&["Tell me about the hotel."]), 24);
        drawn.settings.temperature = 1.2;
        drawn.settings.top_p = 1.0;
        drawn.seed = seed;
        replies.push(ask(llm, drawn).await?.text);
    }
    llm.release(call(9));
    check(
        replies.iter().any(|reply| *reply != replies[0]),
        format!("{replies:?}"),
    )
}

async fn more_callers_than_sequences_are_all_answered(llm: &Llm) -> Outcome {
    let tasks: Vec<_> = (100..120)
        .map(|number| {
            let llm = llm.clone();
            tokio::spawn(async move {
                ask(
                    &llm,
                    request(number, conversation(&["Where is the pool?"]), 12),
                )
                .await
            })
        })
        .collect();
    for task in tasks {
        let reply = task.await??;
        check(reply.text.contains("roof"), reply.text)?;
    }
    Ok(())
}

async fn a_killed_worker_comes_back_with_its_instructions(llm: &Llm) -> Outcome {
    let (events, mut received) = mpsc::channel(64);
    let long = conversation(&["Tell me a very long story about the hotel."]);
    let _handle = llm.generate(request(20, long, 400), events)?;
    received.recv().await.ok_or("no text")?;
    let pid = llm.snapshot().pid.ok_or("no worker")?;
    check(
        Path::new(&format!("/proc/{pid}")).exists(),
        "the worker's pid",
    )?;
    std::process::Command::new("kill")
        .arg("-KILL")
        .arg(pid.to_string())
        .status()?;
    let died = loop {
        match received.recv().await {
            Some(EngineEvent::ReplyText { .. }) => {}
            other => break other,
        }
    };
    let told =
        matches!(&died, Some(EngineEvent::ReplyFailed { error, .. }) if error.is_retryable());
    check(told, format!("{died:?}"))?;
    // Asked at once, answered by the successor.
    let reply = ask(llm, request(20, conversation(&["Where is the pool?"]), 40)).await?;
    check(reply.text.contains("roof"), reply.text)?;
    check(
        matches!(&*llm.state().borrow(), WorkerState::Ready { .. }),
        "not ready",
    )?;
    settled(llm).await;
    let warm = ask(llm, request(21, conversation(&["Where is the pool?"]), 40))
        .await?
        .usage;
    check(warm.cached_tokens > 40, format!("warmed again: {warm:?}"))
}
