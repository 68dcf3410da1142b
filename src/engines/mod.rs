//! The engines: cheap handles through which a call hears, thinks and speaks.
//!
//! ```text
//!  call task ── Stt::transcribe / Llm::reply / Tts::speak ──► Supervisor ── frames ──► worker process
//!      ▲                                                         │  restart, queue,      (whisper, llama,
//!      └───────── mpsc::Sender<EngineEvent> ◄── forward ◄────────┘  deadline, cancel      Piper)
//! ```
//!
//! The voice activity detector ([`vad`]) is the exception: it runs in a thread of this process,
//! because its model is small and cannot take the process down.
//!
//! A handle never blocks: a request either is queued at once or is refused with
//! [`EngineError::Overloaded`]. What comes back carries the [`Generation`](crate::ids::Generation)
//! of the request, so that a result of an abandoned turn is harmless.

mod event;
pub mod hosted;
pub mod ipc;
pub mod llm;
pub mod load;
pub mod onnx;
pub mod phrases;
mod scheduler;
pub mod stt;
pub mod supervisor;
pub mod tts;
pub mod turn;
pub mod vad;
pub mod worker;

pub use event::{EngineError, EngineEvent, FinishReason, ReplyUsage, SpokenLanguage, Transcript};
pub use ipc::Priority;
