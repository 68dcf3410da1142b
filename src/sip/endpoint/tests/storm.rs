//! Two endpoints in weather of a seed's choice, whose owners answer every offer and keep book.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::seconds;
use crate::sip::endpoint::simulation::{Simulation, Weather, address, invitation};
use crate::sip::endpoint::{CommandError, EndCause, Endpoint, Event, Extensions, Hangup, LegId};

/// What one side knows of its call.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) leg: Option<LegId>,
    pub(super) established: bool,
    pub(super) ended: Option<EndCause>,
    /// Ours, theirs.
    pub(super) session: (String, String),
    pub(super) offered: Option<String>,
    count: u32,
    events_after_end: u32,
    legs_seen: u32,
}

impl Side {
    pub(super) fn describe(&mut self, name: &str) -> Vec<u8> {
        self.count += 1;
        format!("v=0 {name} {}", self.count).into_bytes()
    }

    fn agree(&mut self, ours: &[u8], theirs: &[u8]) {
        self.session = (text(ours), text(theirs));
    }

    /// Keeps book and answers every offer.
    fn handle(&mut self, name: &str, endpoint: &mut Endpoint, now: Instant, event: &Event) {
        self.events_after_end += u32::from(self.ended.is_some());
        match event {
            Event::IncomingCall(call) => {
                self.legs_seen += 1;
                self.leg = Some(call.leg);
                if let Some(offer) = &call.offer {
                    self.session.1 = text(offer);
                }
            }
            Event::Answered { sdp, .. } => {
                self.established = true;
                if let Some(ours) = self.offered.take() {
                    self.agree(ours.as_bytes(), sdp);
                }
            }
            Event::Confirmed { answer, .. } => {
                self.established = true;
                if let Some(answer) = answer {
                    self.session.1 = text(answer);
                }
            }
            Event::Offer { leg, sdp } => {
                let ours = self.describe(name);
                let theirs = sdp.clone().unwrap();
                endpoint.answer_offer(now, *leg, ours.clone()).unwrap();
                self.agree(&ours, &theirs);
            }
            Event::Answer { sdp, .. } => match self.offered.take() {
                Some(ours) => self.agree(ours.as_bytes(), sdp),
                None => self.session.1 = text(sdp),
            },
            Event::OfferRefused { .. } => self.offered = None,
            Event::Ended { cause, .. } => {
                assert!(self.ended.is_none(), "ended twice");
                self.ended = Some(cause.clone());
            }
            Event::Progress { .. }
            | Event::OfferWithdrawn { .. }
            | Event::Info { .. }
            | Event::ReferProgress { .. }
            | Event::ReferFinished { .. }
            | Event::ReferRequested(_)
            | Event::Registration { .. }
            | Event::SubscribeRequested(_)
            | Event::SubscriptionEnded { .. }
            | Event::Ping { .. } => {}
        }
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// How an offer is sent.
type Offer = fn(&mut Endpoint, Instant, LegId, Vec<u8>) -> Result<(), CommandError>;

/// A caller, side 0, and a callee, side 1.
pub(super) struct Run {
    pub(super) simulation: Simulation,
    pub(super) rng: StdRng,
    pub(super) sides: [Rc<RefCell<Side>>; 2],
    pub(super) seed: u64,
}

const NAMES: [&str; 2] = ["caller", "callee"];

impl Run {
    pub(super) fn new(seed: u64, weather: Weather, extensions: Extensions) -> Self {
        let mut simulation = Simulation::new(seed, weather);
        let sides = [(); 2].map(|()| Rc::<RefCell<Side>>::default());
        for (side, name) in sides.iter().zip(NAMES) {
            let side = Rc::clone(side);
            simulation.add_with(extensions, move |endpoint, now, event| {
                side.borrow_mut().handle(name, endpoint, now, event);
            });
        }
        Self {
            simulation,
            rng: StdRng::seed_from_u64(seed ^ 0xf10),
            sides,
            seed,
        }
    }

    /// In weather of the seed's choice.
    pub(super) fn stormy(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let weather = Weather {
            loss: rng.random_range(0.0..0.15),
            duplication: rng.random_range(0.0..0.3),
            delay: 0..rng.random_range(1..900),
        };
        Self::new(seed, weather, Extensions::default())
    }

    pub(super) fn milliseconds(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    /// One of both sides.
    pub(super) fn side(&mut self) -> usize {
        usize::from(self.rng.random_bool(0.5))
    }

    /// With an offer, or asking for one.
    pub(super) fn call(&mut self, offers: bool) {
        let mut side = self.sides[0].borrow_mut();
        let mut request = invitation(address(1), "");
        request.sdp = offers.then(|| side.describe(NAMES[0]));
        side.offered = request.sdp.as_deref().map(text);
        drop(side);
        let leg = self
            .simulation
            .act(0, |endpoint, now| endpoint.invite(now, request).unwrap());
        self.sides[0].borrow_mut().leg = Some(leg);
    }

    /// Does something with a side's leg, if it has one by then.
    pub(super) fn later(
        &mut self,
        delay: Duration,
        index: usize,
        action: impl FnOnce(&mut Endpoint, Instant, LegId, &mut Side) + 'static,
    ) {
        let side = Rc::clone(&self.sides[index]);
        self.simulation.later(delay, index, move |endpoint, now| {
            let mut side = side.borrow_mut();
            if let (Some(leg), None) = (side.leg, &side.ended) {
                action(endpoint, now, leg, &mut side);
            }
        });
    }

    /// Offers a changed session, unless another offer of this side's is open.
    pub(super) fn offer_at(&mut self, delay: Duration, index: usize, offer: Offer) {
        self.later(delay, index, move |endpoint, now, leg, side| {
            let ours = side.describe(NAMES[index]);
            if side.offered.is_none() && offer(endpoint, now, leg, ours.clone()).is_ok() {
                side.offered = Some(text(&ours));
            }
        });
    }

    pub(super) fn hang_up_at(&mut self, delay: Duration, index: usize) {
        self.later(delay, index, |endpoint, now, leg, _| {
            endpoint.hangup(now, leg, Hangup::default()).unwrap();
        });
    }

    /// One side hangs up now, and after every timer nothing is left.
    pub(super) fn hang_up_and_assert_over(&mut self) {
        self.hang_up_at(Duration::ZERO, usize::from(self.seed.is_multiple_of(2)));
        self.assert_over();
    }

    pub(super) fn assert_agreed(&self) {
        let [caller, callee] = [self.sides[0].borrow(), self.sides[1].borrow()];
        let told = || format!("seed {}: {caller:?} {callee:?} {}", self.seed, self.trace());
        assert!(caller.established && callee.established, "{}", told());
        let (ours, theirs) = caller.session.clone();
        assert_eq!((theirs, ours), callee.session, "{}", told());
    }

    /// After every timer: both ended, once, and nothing is left.
    pub(super) fn assert_over(&mut self) {
        self.simulation.run_for(seconds(400));
        for side in &self.sides {
            let side = side.borrow();
            let told = || format!("seed {}: {side:?} {}", self.seed, self.trace());
            assert_eq!(side.events_after_end, 0, "{}", told());
            assert!(side.legs_seen <= 1, "a phantom call, {}", told());
            assert!(side.leg.is_none() || side.ended.is_some(), "{}", told());
        }
        let told = || format!("seed {}: {}", self.seed, self.trace());
        assert!(self.simulation.is_clean(), "{}", told());
    }

    /// Everything sent, for failures.
    fn trace(&self) -> String {
        let start = self.simulation.start;
        let lines = self.simulation.trace.iter().map(|datagram| {
            let at = (datagram.at - start).as_millis();
            format!("\n{at} ms, side {}: {}", datagram.from, datagram.summary())
        });
        lines.collect()
    }
}
