//! Conversations in virtual time: a caller, a driver and three engines that do as they are told.

mod call;
mod endings;
mod failures;
mod hearing;
mod interruptions;
mod languages;
mod random;
mod transfers;
mod turns;
