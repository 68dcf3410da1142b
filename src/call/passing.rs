//! Where the caller stands who is being passed on to somebody else.
//!
//! ```text
//!                    ┌─ REFER ─▶ Referring ──done──▶ the call ends
//! Idle ─▶ Announced ─┤               │ refused
//!   ▲                └─ call ──▶ Dialling ──answered──▶ Briefing ──▶ Joined ──▶ the call ends
//!   │                                │                     │  └─ REFER, Replaces ─▶ Replacing
//!   └── nobody, busy, refused ◀──────┘   hung up, not  ◀───┘                refused: Joined
//!                                        wanted
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::outbound::{Dialling, Step, Target};
use super::session::Party;
use crate::ids::MailboxName;
use crate::net::media::{ClipKey, Tick};
use crate::sip::endpoint::Event;

/// What the person called hears first, at 8 kHz, once it is spoken; nothing where it cannot be.
pub(super) type Words = Option<Arc<[i16]>>;

/// Names the briefing among what the person called hears.
pub(super) const BRIEFING: ClipKey = ClipKey(u64::MAX);

/// How a caller is passed on.
pub(super) struct Plan {
    pub(super) target: Target,
    /// Said to the person called before the calls are joined.
    pub(super) briefing: Option<String>,
    /// The key by which they take the call; they are not asked where there is none.
    pub(super) accept: Option<char>,
    /// The caller's side is asked to do it, where it can.
    pub(super) refer: bool,
    pub(super) ring_timeout: Option<Duration>,
    /// Where the caller leaves a message who is not put through.
    pub(super) mailbox: Option<MailboxName>,
}

/// The words for the person called.
pub(super) enum Briefing {
    /// Being synthesised.
    Awaited(oneshot::Receiver<Words>),
    /// Being played.
    Playing,
    /// Played: the person called decides.
    Asked { until: Instant },
}

pub(super) enum Passing {
    Idle,
    /// The operator's plan waits until the caller was told.
    Announced(Box<Plan>),
    /// The operator's mailbox waits likewise.
    ToMailbox(MailboxName),
    /// The caller's side is asked to call there.
    Referring(Box<Plan>),
    /// A telephone rings there.
    Dialling {
        plan: Box<Plan>,
        dialling: Dialling,
        words: Option<oneshot::Receiver<Words>>,
    },
    /// The person called hears what it is about.
    Briefing {
        plan: Box<Plan>,
        party: Box<Party>,
        briefing: Briefing,
    },
    /// The caller's side is asked to take our place with the person called.
    Replacing(Box<Party>),
    /// The two are talking.
    Joined(Box<Party>),
    /// We follow the caller's REFER: the assistant goes to somebody else.
    Following(Dialling),
}

/// What happened on the other side.
pub(super) enum Beyond {
    Step(Step),
    /// `None` at the leg's end.
    Sip(Option<Event>),
    /// `None` where the media are gone.
    Tick(Option<Box<Tick>>),
    Words(Words),
}

impl Passing {
    /// What happens next on the other side. Losing the wait loses nothing.
    pub(super) async fn next(&mut self) -> Beyond {
        match self {
            Self::Idle | Self::Announced(_) | Self::ToMailbox(_) | Self::Referring(_) => {
                std::future::pending().await
            }
            Self::Dialling { dialling, .. } | Self::Following(dialling) => {
                Beyond::Step(dialling.next().await)
            }
            Self::Briefing {
                party, briefing, ..
            } => tokio::select! {
                words = spoken(briefing) => Beyond::Words(words),
                beyond = heard(party) => beyond,
            },
            Self::Replacing(party) | Self::Joined(party) => heard(party).await,
        }
    }

    /// The other side's leg, where there is one.
    pub(super) fn party(&mut self) -> Option<&mut Party> {
        match self {
            Self::Briefing { party, .. } | Self::Replacing(party) | Self::Joined(party) => {
                Some(party)
            }
            Self::Idle
            | Self::Announced(_)
            | Self::ToMailbox(_)
            | Self::Referring(_)
            | Self::Dialling { .. }
            | Self::Following(_) => None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    pub(super) fn is_joined(&self) -> bool {
        matches!(self, Self::Joined(_))
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Idle)
    }
}

async fn spoken(briefing: &mut Briefing) -> Words {
    match briefing {
        Briefing::Awaited(words) => {
            let words = words.await.ok().flatten();
            *briefing = Briefing::Playing;
            words
        }
        Briefing::Playing | Briefing::Asked { .. } => std::future::pending().await,
    }
}

async fn heard(party: &mut Party) -> Beyond {
    tokio::select! {
        event = party.events.recv() => Beyond::Sip(event),
        tick = party.ticks.recv() => Beyond::Tick(tick.map(Box::new)),
    }
}
