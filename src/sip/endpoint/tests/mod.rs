//! Scenarios in virtual time. `calls`: two endpoints and one lost message at a time. `weather`
//! and `flows`: thousands of seeded runs, on what `storm` brings. `peers`, `refusals` and
//! `outgoing`: a scripted peer. `transfers`: REFER and Replaces. `timers`: session timers.
//! `reliable`: provisional responses and PRACK. `updates`: UPDATE, and offers that come late.
//! `subscriptions`: SUBSCRIBE and NOTIFY. `transports`: connections. `registrars`: several, and what keeps the way open. `torture`: RFC
//! 4475 and 5118, and mutations of them.

mod calls;
mod flows;
mod outgoing;
mod peer;
mod peers;
mod refusals;
mod registrars;
mod registrations;
mod reliable;
mod storm;
mod subscriptions;
mod timers;
mod torture;
mod transfers;
mod transports;
mod updates;
mod weather;

use std::time::Duration;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
