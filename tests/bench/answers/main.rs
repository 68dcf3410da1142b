//! Asks the language model's worker for the facts of `answers.toml`, without speech, and measures
//! its speed. The voice version over real calls uses the same file.
//!
//! ```text
//! answers --model FILE [--worker FILE] [--data FILE] [--before TEXT] [--after TEXT]
//!         [--one-call] [--speed | --scenarios] [--threads N] [--scheduling idle|nice|normal]
//!         [--opening greeting|hello|question] [--asked-only] [--verbose]
//! ```
//!
//! `--one-call` asks an assistant's facts one after the other in one call, instead of each in a
//! call of its own; `--speed` measures speed instead; `--scenarios` checks what the worker
//! promises.
#![allow(clippy::print_stdout, missing_docs)]

mod scenarios;

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use offhook::engines::llm::{
    ChatMessage, ChatRole, GenerateRequest, GenerateSettings, Llm, LlmWorkerSettings,
};
use offhook::engines::supervisor::{WorkerSpec, find_executable};
use offhook::engines::worker::Scheduling;
use offhook::engines::{EngineEvent, Priority, ReplyUsage};
use offhook::ids::{CallId, Generation};
use serde::Deserialize;
use tokio::sync::mpsc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    assistants: Vec<Assistant>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Assistant {
    name: String,
    greeting: String,
    instructions: String,
    facts: Vec<Fact>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fact {
    id: String,
    question: String,
    heard: Vec<String>,
    accept: Vec<Vec<String>>,
    #[serde(default)]
    reject: Vec<String>,
}

impl Fact {
    fn is_right(&self, answer: &str) -> bool {
        let answer = words(answer);
        let holds = |text: &String| answer.contains(&words(text));
        self.accept.iter().all(|texts| texts.iter().any(holds)) && !self.reject.iter().any(holds)
    }
}

/// The text's words in lower case, with a space before and after each.
fn words(text: &str) -> String {
    let spaced: String = text
        .chars()
        .map(|letter| {
            if letter.is_alphanumeric() {
                letter
            } else {
                ' '
            }
        })
        .collect();
    let words: Vec<String> = spaced.split_whitespace().map(str::to_lowercase).collect();
    format!(" {} ", words.join(" "))
}

struct Options {
    model: PathBuf,
    worker: Option<PathBuf>,
    data: PathBuf,
    before: Option<String>,
    after: Option<String>,
    one_call: bool,
    asked_only: bool,
    speed: bool,
    scenarios: bool,
    threads: u32,
    scheduling: Scheduling,
    opening: Opening,
    verbose: bool,
}

/// How the conversation begins, as the model sees it.
#[derive(Clone, Copy, Debug)]
enum Opening {
    /// With the greeting.
    Greeting,
    /// With a caller who says hello, and the greeting.
    Hello,
    /// With the question.
    Question,
}

fn opening(text: &str) -> Result<Opening, Box<dyn Error>> {
    match text {
        "greeting" => Ok(Opening::Greeting),
        "hello" => Ok(Opening::Hello),
        "question" => Ok(Opening::Question),
        other => Err(format!("unknown opening {other}").into()),
    }
}

fn scheduling(text: &str) -> Result<Scheduling, Box<dyn Error>> {
    match text {
        "idle" => Ok(Scheduling::Idle),
        "nice" => Ok(Scheduling::Nice),
        "normal" => Ok(Scheduling::Normal),
        other => Err(format!("unknown scheduling {other}").into()),
    }
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        model: PathBuf::new(),
        worker: None,
        data: "tests/bench/answers/answers.toml".into(),
        before: None,
        after: None,
        one_call: false,
        asked_only: false,
        speed: false,
        scenarios: false,
        threads: 2,
        scheduling: Scheduling::default(),
        opening: Opening::Greeting,
        verbose: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--model" => options.model = value()?.into(),
            "--worker" => options.worker = Some(value()?.into()),
            "--data" => options.data = value()?.into(),
            "--before" => options.before = Some(value()?),
            "--after" => options.after = Some(value()?),
            "--scheduling" => options.scheduling = scheduling(&value()?)?,
            "--threads" => options.threads = value()?.parse()?,
            "--opening" => options.opening = opening(&value()?)?,
            "--one-call" => options.one_call = true,
            "--asked-only" => options.asked_only = true,
            "--speed" => options.speed = true,
            "--scenarios" => options.scenarios = true,
            "--verbose" => options.verbose = true,
            "--bench" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(options)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let worker = match &options.worker {
        Some(worker) => worker.clone(),
        None => find_executable("offhook-llm", None)?,
    };
    let mut settings = LlmWorkerSettings::new(&options.model);
    settings.threads = options.threads;
    let mut spec = WorkerSpec::new(worker);
    spec.scheduling = options.scheduling;
    if options.scenarios {
        return scenarios::run(spec, settings).await;
    }
    let llm = Llm::start(spec, &settings)?;
    llm.ready().await?;
    let data: Data = toml::from_str(&std::fs::read_to_string(&options.data)?)?;
    if options.speed {
        speed(&llm, &options, &data).await?;
    } else {
        answers(&llm, &options, &data).await?;
    }
    llm.shutdown().await;
    Ok(())
}

fn system(assistant: &Assistant, options: &Options) -> ChatMessage {
    let prompt = offhook::engines::llm::SpeechPrompt::default();
    let prompt = offhook::engines::llm::SpeechPrompt {
        before: options.before.clone().unwrap_or(prompt.before),
        after: options.after.clone().unwrap_or(prompt.after),
    };
    prompt.system_message(&assistant.instructions)
}

fn beginning(assistant: &Assistant, options: &Options) -> Vec<ChatMessage> {
    let system = system(assistant, options);
    let greeting = ChatMessage::new(ChatRole::Assistant, &assistant.greeting);
    match options.opening {
        Opening::Greeting => vec![system, greeting],
        Opening::Hello => vec![system, ChatMessage::new(ChatRole::User, "Hello?"), greeting],
        Opening::Question => vec![system],
    }
}

/// What came of questions asked in one way.
#[derive(Default)]
struct Score {
    right: u32,
    asked: u32,
    words: Vec<usize>,
    first_token_ms: Vec<u32>,
    new_tokens: u32,
}

impl Score {
    fn add(&mut self, is_right: bool, answer: &str, usage: ReplyUsage) {
        self.right += u32::from(is_right);
        self.asked += 1;
        self.words.push(answer.split_whitespace().count());
        self.first_token_ms.push(usage.first_token_ms);
        self.new_tokens += usage.prompt_tokens - usage.cached_tokens;
    }

    fn report(mut self, name: &str) {
        if self.asked == 0 {
            return;
        }
        self.words.sort_unstable();
        self.first_token_ms.sort_unstable();
        let asked = self.words.len();
        println!(
            "{name}: right {}/{asked} ({:.0} %); words p50 {} max {}; first token p50 {} ms \
             p90 {} ms, with {:.1} new tokens",
            self.right,
            100.0 * f64::from(self.right) / f64::from(self.asked),
            self.words[asked / 2],
            self.words[asked - 1],
            self.first_token_ms[asked / 2],
            self.first_token_ms[asked * 9 / 10],
            f64::from(self.new_tokens) / f64::from(self.asked),
        );
    }
}

async fn answers(llm: &Llm, options: &Options, data: &Data) -> Result<(), Box<dyn Error>> {
    let (mut asked, mut heard) = (Score::default(), Score::default());
    let mut call = 0;
    for assistant in &data.assistants {
        let beginning = beginning(assistant, options);
        let usage = llm.warm(beginning.clone()).await?.usage;
        println!(
            "{}: {} tokens in {} ms",
            assistant.name, usage.prompt_tokens, usage.total_ms
        );
        let longest = assistant
            .facts
            .iter()
            .map(|fact| fact.heard.len())
            .max()
            .unwrap_or(0);
        let longest = if options.asked_only { 0 } else { longest };
        for way in 0..=longest {
            let mut messages = beginning.clone();
            for fact in &assistant.facts {
                let ways: Vec<&String> = [&fact.question].into_iter().chain(&fact.heard).collect();
                let Some(question) = ways.get(way) else {
                    continue;
                };
                if !options.one_call {
                    messages = beginning.clone();
                    call += 1;
                }
                messages.push(ChatMessage::new(ChatRole::User, *question));
                let (answer, usage) = reply(llm, call, messages.clone(), 160).await?;
                let is_right = fact.is_right(&answer);
                let score = if way == 0 { &mut asked } else { &mut heard };
                score.add(is_right, &answer, usage);
                if options.verbose || !is_right {
                    let mark = if is_right { "right" } else { "WRONG" };
                    println!(
                        "{mark} {}/{}: {question} -> {answer:?}",
                        assistant.name, fact.id
                    );
                }
                messages.push(ChatMessage::new(ChatRole::Assistant, answer));
            }
            call += 1;
        }
    }
    asked.report("as asked");
    heard.report("as heard");
    Ok(())
}

async fn reply(
    llm: &Llm,
    call: usize,
    messages: Vec<ChatMessage>,
    max_tokens: u32,
) -> Result<(String, ReplyUsage), Box<dyn Error>> {
    let (events, mut received) = mpsc::channel(64);
    let request = GenerateRequest {
        generation: Generation::from_raw(1),
        call: call_id(call),
        priority: Priority::Waiting,
        messages,
        settings: GenerateSettings {
            max_tokens,
            ..GenerateSettings::default()
        },
        seed: 1,
    };
    let _handle = llm.generate(request, events)?;
    let mut answer = String::new();
    while let Some(event) = received.recv().await {
        match event {
            EngineEvent::ReplyText { text, .. } => answer.push_str(&text),
            EngineEvent::ReplyDone { usage, .. } => return Ok((answer, usage)),
            EngineEvent::ReplyFailed { error, .. } => return Err(error.into()),
            EngineEvent::SentenceEnds { .. }
            | EngineEvent::Transcript { .. }
            | EngineEvent::Speech { .. }
            | EngineEvent::FellBack { .. } => {}
        }
    }
    Err("the answer broke off".into())
}

fn call_id(number: usize) -> CallId {
    CallId::from_random((number as u128 + 1).to_le_bytes())
}

/// First-token time and tokens per second for 1, 4 and 8 callers at once.
async fn speed(llm: &Llm, options: &Options, data: &Data) -> Result<(), Box<dyn Error>> {
    let assistant = &data.assistants[0];
    let beginning = beginning(assistant, options);
    let warmed = llm.warm(beginning.clone()).await?.usage;
    println!(
        "instructions: {} tokens in {} ms ({:.0} tokens/s)",
        warmed.prompt_tokens,
        warmed.total_ms,
        rate(warmed.prompt_tokens, warmed.total_ms)
    );
    let ask = "Please tell me everything that you know about opening hours, prices and parking, \
               at length, one after the other.";
    let mut one = 0.0;
    for callers in [1, 4, 8] {
        let started = Instant::now();
        let replies = (0..callers).map(|caller| {
            let mut messages = beginning.clone();
            messages.push(ChatMessage::new(
                ChatRole::User,
                format!("I am caller {caller}. {ask}"),
            ));
            reply(llm, 1000 * callers + caller, messages, 32)
        });
        let replies = futures_join(replies.collect()).await?;
        let wall: Duration = started.elapsed();
        let tokens: u32 = replies
            .iter()
            .map(|(_, usage)| usage.completion_tokens)
            .sum();
        let first = replies
            .iter()
            .map(|(_, usage)| usage.first_token_ms)
            .max()
            .unwrap_or(0);
        let decode: u32 = replies
            .iter()
            .map(|(_, usage)| usage.total_ms - usage.first_token_ms)
            .max()
            .unwrap_or(0);
        let all = rate(tokens, decode);
        if callers == 1 {
            one = all;
        }
        println!(
            "{callers} callers: {tokens} tokens, first token at most {first} ms, {all:.1} tokens/s \
             in all ({:.1} times one caller's), wall {} ms",
            all / one,
            wall.as_millis()
        );
        for caller in 0..callers {
            llm.release(call_id(1000 * callers + caller));
        }
    }
    Ok(())
}

fn rate(tokens: u32, ms: u32) -> f64 {
    1000.0 * f64::from(tokens) / f64::from(ms.max(1))
}

/// Runs all of them at once on this thread.
async fn futures_join<T>(
    futures: Vec<impl Future<Output = Result<T, Box<dyn Error>>>>,
) -> Result<Vec<T>, Box<dyn Error>> {
    let mut futures: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, result) in &mut futures {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(done) => *result = Some(done),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    futures
        .into_iter()
        .filter_map(|(_, result)| result)
        .collect()
}
