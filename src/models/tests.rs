//! Fetching, checking and converting models, against servers and packages of our own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fetching;
mod manifests;
mod packages;
mod support;
