//! Offhook: a self-hosted phone server for AI voice agents.
//!
//! # Map
//!
//! Pure modules (no sockets, tasks, threads, clocks or global randomness):
//! [`ids`] and [`record`] name things, [`numbers`] may be called or not, [`audio`] is samples, [`sip`], [`sdp`] and [`rtp`] are the
//! protocols, [`conversation`] decides who speaks, [`voicemail`] what callers and owners go through
//! in a mailbox.
//!
//! IO modules: [`net`] owns sockets and the 20 ms pacer, [`engines`] the workers that hear, think
//! and speak, [`models`] their weights, [`store`] all SQL and the files of a call, [`observe`]
//! metrics, [`web`] HTTP to other machines, [`webhooks`] what assistants' servers are told,
//! [`analysis`] what the model says of calls that are over.
//!
//! Orchestration: [`call`] drives one task per call, [`control`] is the operator's way to them,
//! [`softphone`] is the caller for people without a phone, [`http`] is the API,
//! [`directory`] its assistants, numbers and trunks, [`config`] and [`cli`] face the operator and [`app`] puts everything together.
//!
//! # Invariants
//!
//! 1. No pure module reads a clock or draws randomness that it was not handed.
//! 2. A call never waits for a model, a disk, a database or an HTTP peer. Queues are bounded;
//!    what is dropped is counted.
//! 3. Nothing plays, runs or is remembered for a turn that was not committed; history holds what
//!    the caller actually heard.
//! 4. Every turn ends in audio or in a spoken explanation. Silence is a bug.
//! 5. No caller's words, number or key above DEBUG in a log; secrets never in a snapshot, an
//!    error or a URL.
//! 6. Every error that ends a call says whose fault it was, whether to retry, which SIP code it
//!    maps to, and which metric label.

#![forbid(unsafe_code)]

pub mod analysis;
pub mod app;
pub mod audio;
pub mod call;
pub mod cli;
pub mod config;
pub mod control;
pub mod conversation;
pub mod directory;
pub mod engines;
pub mod http;
pub mod ids;
pub mod models;
pub mod net;
pub mod numbers;
pub mod observe;
pub mod record;
pub mod rtp;
pub mod sdp;
pub mod sip;
pub mod softphone;
pub mod store;
pub mod voicemail;
pub mod web;
pub mod webhooks;
