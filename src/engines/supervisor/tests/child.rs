//! The child process: this test binary, when the environment says so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engines::EngineError;
use crate::engines::supervisor::{Protocol, Scheduling, WorkerSpec};
use crate::engines::worker::{self, Job, Jobs, Loaded};

/// Says how the child behaves when it starts.
const MODE: &str = "OFFHOOK_TEST_WORKER";

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Answer with the pid and the payload reversed.
    Echo,
    /// Answer when cancelled.
    Sleep,
    /// Answer never.
    Hang,
    /// Take this long, in steps that count as progress.
    Work { steps: u32 },
    /// Send this many parts.
    Parts { count: u32 },
    /// Drop the request.
    Forget,
    /// Die as a failed assertion in native code does.
    Abort,
    /// End without a word.
    Exit,
    /// Write noise to the frame stream's file descriptor.
    Garbage,
}

pub(super) struct Test;

impl Protocol for Test {
    const ENGINE: &'static str = "test";
    type Request = Ask;
    type Response = u32;
    type Facts = String;
}

/// Not a test: the worker's main function, when it is asked for.
#[test]
fn worker_process() {
    let Ok(mode) = std::env::var(MODE) else {
        return;
    };
    let code = worker::run::<Test, ()>(|| load(&mode), |(), jobs| serve(&jobs));
    // libtest would print and then wait for nobody.
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

fn load(mode: &str) -> Result<Loaded<Test, ()>, EngineError> {
    match mode {
        "missing" => Err(EngineError::ModelMissing {
            detail: "fetch it".into(),
        }),
        "crash" => std::process::exit(3),
        "mute" => loop {
            std::thread::park();
        },
        // Dies at its first start only.
        file if file.starts_with('/') && std::fs::remove_file(file).is_ok() => {
            std::process::exit(4)
        }
        _ => Ok(Loaded {
            engine: (),
            model: "tiny".into(),
            facts: mode.to_owned(),
        }),
    }
}

fn serve(jobs: &Jobs<Test>) {
    while let Some(Job {
        request,
        payload,
        responder,
        ..
    }) = jobs.next()
    {
        let pid = std::process::id();
        match request {
            Ask::Echo => {
                let reversed: Vec<u8> = payload.into_iter().rev().collect();
                responder.done(pid, &reversed);
            }
            Ask::Sleep => {
                responder.part(pid, &[]);
                while !responder.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                responder.fail(EngineError::Cancelled);
            }
            Ask::Hang => loop {
                std::thread::park();
            },
            Ask::Work { steps } => {
                for _ in 0..steps {
                    std::thread::sleep(Duration::from_millis(100));
                    responder.progress();
                }
                responder.done(pid, &[]);
            }
            Ask::Parts { count } => {
                for number in 0..count {
                    responder.part(number, &[]);
                }
                responder.done(count, &[]);
            }
            Ask::Forget => drop(responder),
            Ask::Abort => std::process::abort(),
            Ask::Exit => std::process::exit(0),
            Ask::Garbage => write_garbage(),
        }
    }
}

/// Finds the descriptor that the worker claimed for frames, as a stray pointer would.
fn write_garbage() {
    use std::io::Write;
    for number in 3..20 {
        let path = format!("/proc/self/fd/{number}");
        let target = std::fs::read_link(&path).unwrap_or_default();
        if target.to_string_lossy().starts_with("pipe:")
            && let Ok(mut file) = std::fs::OpenOptions::new().write(true).open(&path)
        {
            file.write_all(&[0xff; 64]).unwrap();
        }
    }
}

pub(super) fn spec(mode: &str) -> WorkerSpec {
    let mut spec = WorkerSpec::new(std::env::current_exe().unwrap());
    let name = format!(
        "{}::worker_process",
        module_path!().split_once("::").unwrap().1
    );
    spec.args = vec!["--exact".into(), name.into(), "--nocapture".into()];
    spec.env = vec![(MODE.into(), mode.into())];
    // The tests share the machine with other work.
    spec.scheduling = Scheduling::Normal;
    spec
}
