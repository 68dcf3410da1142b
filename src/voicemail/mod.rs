//! Mailboxes, without their sockets and files: what they are set to, when they are open, and what
//! a caller or an owner goes through in one.
//!
//! ```text
//!  caller ──▶ Deposit: greeting ─▶ beep ─▶ recording ─▶ thanks
//!  owner ───▶ Menu: mailbox ─▶ PIN ─▶ count ─▶ message ─▶ repeat, save, delete, next
//! ```
//!
//! Both are state machines on the call's clock, fed with every tick of the media.

mod deposit;
mod hours;
mod menu;
mod pin;
mod prompts;
mod settings;
mod sound;
mod summary;

pub use deposit::{Announcement, Deposit, DepositInput, DepositOutput, Ending, Refused};
pub use hours::{Hours, HoursError};
pub use menu::{Claimed, Envelope, Menu, MenuInput, MenuOutput, Owner};
pub use pin::{Pin, PinGuard};
pub use prompts::{Prompt, count_prompts, prompts, spoken_number};
pub use settings::MailboxSettings;
pub use summary::{MESSAGE_SUMMARY, SIMPLE_MESSAGE_SUMMARY, message_summary};
