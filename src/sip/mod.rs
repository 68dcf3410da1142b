//! SIP (RFC 3261) without sockets, tasks, clocks or randomness of its own.
//!
//! The wire is ours: [`wire`] turns datagrams and streams into [`message::Message`]s tolerantly,
//! [`headers`] and [`uri`] type their values, [`auth`] is digest for both sides. `rsip` names
//! methods and status codes only, and only in [`message`]. On top of them stand the
//! transactions, dialogs and registrations behind [`endpoint`].
//!
//! ```text
//! bytes --wire::parse_datagram / wire::StreamFramer--> Message { headers: Headers, body }
//!            |                                            |  typed getters parse on demand
//!            `--> ParseError { rejection }                 `--> Via, NameAddr, CSeq, Challenge ...
//!                  (what may be answered, and with what)
//! ```

pub mod auth;
pub mod dialog;
pub mod endpoint;
pub mod extensions;
pub mod flood;
pub mod fragment;
pub mod headers;
pub mod identity;
pub mod keypad;
pub mod ladder;
pub mod message;
pub mod numbering;
pub mod params;
pub mod registration;
pub mod session_timer;
pub mod syntax;
pub mod timers;
pub mod token;
pub mod transaction;
pub mod transport;
pub mod uri;
pub mod wire;
