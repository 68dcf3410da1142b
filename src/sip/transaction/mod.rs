//! The four transactions of RFC 3261 section 17, as amended by RFC 6026, and the tables that
//! match messages to them.
//!
//! The machines hold states and timers only; the tables hold the bytes to send again. Whoever
//! owns a table asks it for deadlines after each change and hands it the time.

mod client;
mod client_invite;
mod clients;
mod server;
mod server_invite;
mod servers;

pub use client::Client;
pub use client_invite::ClientInvite;
pub use clients::{ClientId, ClientTransaction, Clients};
pub use server::Server;
pub use server_invite::ServerInvite;
pub use servers::{RequestKeys, ServerId, ServerTransaction, Servers};

/// What a client transaction wants done with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseAction {
    /// Hand it to the user.
    Deliver,
    /// Acknowledge it and hand it to the user.
    AckAndDeliver,
    /// Acknowledge it; the user has it already.
    Ack,
    /// Nothing: a repeat, or too late.
    Absorb,
}

/// What a server transaction wants done with a request that came again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestAction {
    /// Send the last response again, if there is one.
    ResendResponse,
    /// Nothing.
    Absorb,
}

/// What an INVITE server transaction wants done with an ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckAction {
    /// Nothing more: it confirmed a refusal.
    Absorb,
    /// Hand it to the user: it confirms a 2xx.
    Deliver,
}

/// What passing time asks of a transaction's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Nothing.
    Nothing,
    /// Send the last message again.
    Retransmit,
    /// The transaction failed: no response, no ACK or no transport.
    Failed,
}
