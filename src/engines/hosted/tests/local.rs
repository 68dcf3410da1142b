//! The local engines: real supervisors over workers that are this test binary.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::engines::Transcript;
use crate::engines::ipc::{Protocol, samples_to_payload};
use crate::engines::llm::{
    Llm, LlmEnd, LlmFacts, LlmFinish, LlmProtocol, LlmRequest, LlmResponse, LlmWorkerSettings,
};
use crate::engines::stt::{Stt, SttConfig, SttFacts, SttProtocol};
use crate::engines::supervisor::WorkerSpec;
use crate::engines::tts::{Spoken, Tts, TtsConfig, TtsFacts, TtsProtocol};
use crate::engines::worker::{self, Jobs, Loaded, Scheduling};

/// Says which engine the child is.
const ENGINE: &str = "OFFHOOK_TEST_LOCAL_ENGINE";

/// What the local voice makes: nothing that a hosted one makes.
pub(super) const LOCAL_SPEECH: [i16; 3] = [1, 2, 3];
pub(super) const LOCAL_WORDS: &str = "heard here";

/// Not a test: the workers' main function, when it is asked for.
#[test]
fn worker_process() {
    let Ok(engine) = std::env::var(ENGINE) else {
        return;
    };
    let code = match engine.as_str() {
        "llm" => worker::run::<LlmProtocol, ()>(
            || {
                let facts = LlmFacts {
                    context_tokens: 1,
                    conversation_tokens: 1,
                    conversations: 1,
                    has_template: true,
                };
                Ok(loaded(facts))
            },
            |(), jobs| think(&jobs),
        ),
        "stt" => worker::run::<SttProtocol, ()>(
            || Ok(loaded(SttFacts { multilingual: true })),
            |(), jobs| hear(&jobs),
        ),
        _ => worker::run::<TtsProtocol, ()>(
            || {
                Ok(loaded(TtsFacts {
                    model_sample_rate: 8000,
                    language: "en".into(),
                }))
            },
            |(), jobs| speak(&jobs),
        ),
    };
    // libtest would print and then wait for nobody.
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

fn loaded<P: Protocol>(facts: P::Facts) -> Loaded<P, ()> {
    Loaded {
        engine: (),
        model: "local".into(),
        facts,
    }
}

/// Repeats who said the last message, and what.
fn think(jobs: &Jobs<LlmProtocol>) {
    while let Some(job) = jobs.next() {
        let end = LlmEnd {
            finish: Some(LlmFinish::Stop),
            ..LlmEnd::default()
        };
        if let LlmRequest::Generate { messages, .. } = job.request {
            let last = messages.last().unwrap();
            let text = format!("[{}: {}]", last.role.as_str(), last.content);
            job.responder.part(LlmResponse::Text(text), &[]);
        }
        job.responder.done(LlmResponse::End(end), &[]);
    }
}

fn hear(jobs: &Jobs<SttProtocol>) {
    while let Some(job) = jobs.next() {
        let heard = Transcript {
            text: LOCAL_WORDS.into(),
            ..Transcript::default()
        };
        job.responder.done(heard, &[]);
    }
}

fn speak(jobs: &Jobs<TtsProtocol>) {
    while let Some(job) = jobs.next() {
        let samples = samples_to_payload(&LOCAL_SPEECH);
        job.responder.done(Spoken { synthesis_ms: 1 }, &samples);
    }
}

/// Starts this binary as a worker, whatever arguments it is given.
fn script(engine: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("offhook-local-{}-{engine}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let test = module_path!().split_once("::").unwrap().1;
    let text = format!(
        "#!/bin/sh\nrm -f \"$0\"\n{ENGINE}={engine} exec '{}' --exact {test}::worker_process --nocapture\n",
        std::env::current_exe().unwrap().display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

pub(super) fn llm() -> Llm {
    let mut spec = WorkerSpec::new(script("llm"));
    spec.scheduling = Scheduling::Normal;
    Llm::start(spec, &LlmWorkerSettings::new("none")).unwrap()
}

pub(super) fn stt() -> Stt {
    let mut config = SttConfig::new(script("stt"), "none");
    config.scheduling = Scheduling::Normal;
    Stt::start(&config)
}

pub(super) fn tts() -> Tts {
    let mut config = TtsConfig::new(script("tts"), "none", "none");
    config.scheduling = Scheduling::Normal;
    Tts::start(&config)
}
