//! Sockets: the SIP driver, DNS, and the media thread with its 20 ms pacer.

pub mod local;
pub mod media;
pub mod resolve;
pub mod sip;
