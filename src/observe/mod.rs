//! What can be seen from outside: metrics, the health of each part, and where trunks stand.

mod health;
mod metrics;
mod trunks;

pub use health::{Component, Health, State};
pub use metrics::{Metrics, Scrape};
pub use trunks::{Reachability, TrunkBoard, TrunkState, TrunkStatus};
