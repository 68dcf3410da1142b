//! What can be seen from outside: metrics, and the health of each part.

mod health;
mod metrics;

pub use health::{Component, Health, State};
pub use metrics::{Metrics, Scrape, TurnPart};
