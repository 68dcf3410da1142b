//! Set-up with early media, UPDATE, late offers and session refreshes between two endpoints in
//! bad weather: both sides end with the same session, and nothing is left.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::sip::endpoint::simulation::{Simulation, Weather, address, invitation};
use crate::sip::endpoint::{
    Endpoint, Event, Extensions, Hangup, LegId, RefreshedBy, SessionTimerSettings,
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What one side knows of its call.
#[derive(Default)]
struct Side {
    leg: Option<LegId>,
    established: bool,
    ended: bool,
    /// Ours, theirs.
    session: (String, String),
    offered: Option<String>,
    count: u32,
}

impl Side {
    fn describe(&mut self, name: &str) -> Vec<u8> {
        self.count += 1;
        format!("v=0 {name} {}", self.count).into_bytes()
    }

    fn agree(&mut self, ours: &[u8], theirs: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.session = (text(ours), text(theirs));
    }
}

type Shared = Rc<RefCell<Side>>;

/// Keeps book and answers every offer.
fn handle(name: &str, side: &Shared, endpoint: &mut Endpoint, now: Instant, event: &Event) {
    let mut side = side.borrow_mut();
    match event {
        Event::IncomingCall(call) => {
            side.leg = Some(call.leg);
            if let Some(offer) = &call.offer {
                side.session.1 = String::from_utf8(offer.clone()).unwrap();
            }
        }
        Event::Answered { sdp, .. } => {
            side.established = true;
            if let Some(ours) = side.offered.take() {
                side.agree(ours.as_bytes(), sdp);
            }
        }
        Event::Confirmed { answer, .. } => {
            side.established = true;
            if let Some(answer) = answer {
                side.session.1 = String::from_utf8(answer.clone()).unwrap();
            }
        }
        Event::Offer { leg, sdp } => {
            let ours = side.describe(name);
            let theirs = sdp.clone().unwrap();
            endpoint.answer_offer(now, *leg, ours.clone()).unwrap();
            side.agree(&ours, &theirs);
        }
        Event::Answer { sdp, .. } => match side.offered.take() {
            Some(ours) => side.agree(ours.as_bytes(), sdp),
            None => side.session.1 = String::from_utf8(sdp.clone()).unwrap(),
        },
        Event::OfferRefused { .. } => side.offered = None,
        Event::Ended { .. } => {
            assert!(!side.ended, "ended twice");
            side.ended = true;
        }
        _ => {}
    }
}

struct Run {
    simulation: Simulation,
    rng: StdRng,
    sides: [Shared; 2],
    seed: u64,
}

impl Run {
    fn new(seed: u64, weather: Weather, extensions: Extensions) -> Self {
        let mut simulation = Simulation::new(seed, weather);
        let sides = [(); 2].map(|()| Shared::default());
        for (index, name) in ["caller", "callee"].into_iter().enumerate() {
            let side = Rc::clone(&sides[index]);
            simulation.add_with(extensions, move |endpoint, now, event| {
                handle(name, &side, endpoint, now, event);
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
    fn stormy(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let weather = Weather {
            loss: rng.random_range(0.0..0.15),
            duplication: rng.random_range(0.0..0.3),
            delay: 0..rng.random_range(1..900),
        };
        Self::new(seed, weather, Extensions::default())
    }

    fn milliseconds(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    /// With an offer, or asking for one.
    fn call(&mut self, offers: bool) {
        let mut side = self.sides[0].borrow_mut();
        let mut request = invitation(address(1), "");
        request.sdp = offers.then(|| side.describe("caller"));
        side.offered = request
            .sdp
            .clone()
            .map(|sdp| String::from_utf8(sdp).unwrap());
        drop(side);
        let leg = self
            .simulation
            .act(0, |endpoint, now| endpoint.invite(now, request).unwrap());
        self.sides[0].borrow_mut().leg = Some(leg);
    }

    /// Does something with a side's leg, if it has one by then.
    fn later(
        &mut self,
        delay: Duration,
        index: usize,
        action: impl FnOnce(&mut Endpoint, Instant, LegId, &mut Side) + 'static,
    ) {
        let side = Rc::clone(&self.sides[index]);
        self.simulation.later(delay, index, move |endpoint, now| {
            let mut side = side.borrow_mut();
            if let (Some(leg), false) = (side.leg, side.ended) {
                action(endpoint, now, leg, &mut side);
            }
        });
    }

    /// Rings, sends early media and answers, each at a time of its own.
    fn ring_and_answer(&mut self) {
        let ring = self.milliseconds(1000..3000);
        let media = ring + self.milliseconds(0..2000);
        let answer = media + self.milliseconds(0..4000);
        // The INVITE may take several tries to arrive.
        for attempt in 0..4 {
            let again = seconds(8 * attempt);
            self.later(ring + again, 1, |endpoint, now, leg, _| {
                let _ = endpoint.ring(now, leg);
            });
            self.later(media + again, 1, |endpoint, now, leg, side| {
                if side.session.0.is_empty() {
                    let ours = side.describe("callee");
                    if endpoint.progress(now, leg, 183, Some(ours.clone())).is_ok() {
                        side.session.0 = String::from_utf8(ours).unwrap();
                    }
                }
            });
            self.later(answer + again, 1, |endpoint, now, leg, side| {
                // What early media said stands.
                let ours = side.session.0.clone().into_bytes();
                if !ours.is_empty() {
                    let _ = endpoint.accept(now, leg, ours);
                }
            });
        }
    }

    fn update_at(&mut self, delay: Duration, index: usize) {
        let name = ["caller", "callee"][index];
        self.later(delay, index, move |endpoint, now, leg, side| {
            let ours = side.describe(name);
            if side.offered.is_none() && endpoint.update(now, leg, ours.clone()).is_ok() {
                side.offered = Some(String::from_utf8(ours).unwrap());
            }
        });
    }

    fn hang_up_at(&mut self, delay: Duration, index: usize) {
        self.later(delay, index, |endpoint, now, leg, _| {
            endpoint.hangup(now, leg, Hangup::default()).unwrap();
        });
    }

    fn assert_agreed(&self) {
        let [caller, callee] = [self.sides[0].borrow(), self.sides[1].borrow()];
        let seed = self.seed;
        assert!(
            caller.established && callee.established,
            "seed {seed}: {}",
            self.trace()
        );
        let (ours, theirs) = caller.session.clone();
        assert_eq!(
            (theirs, ours),
            callee.session,
            "seed {seed}: {}",
            self.trace()
        );
    }

    fn assert_over(&mut self) {
        self.simulation.run_for(seconds(400));
        let seed = self.seed;
        for side in &self.sides {
            let side = side.borrow();
            assert!(side.leg.is_none() || side.ended, "seed {seed}");
        }
        assert!(self.simulation.is_clean(), "seed {seed}: {}", self.trace());
    }

    fn trace(&self) -> String {
        let start = self.simulation.start;
        let lines = self.simulation.trace.iter().map(|datagram| {
            let at = (datagram.at - start).as_millis();
            format!("\n{at} ms, side {}: {}", datagram.from, datagram.summary())
        });
        lines.collect()
    }
}

#[test]
fn early_media_and_its_answer_are_the_same_on_both_sides() {
    for seed in 0..500 {
        let mut run = Run::stormy(seed);
        run.call(true);
        run.ring_and_answer();
        run.simulation.run_for(seconds(110));
        run.assert_agreed();
        run.hang_up_at(Duration::ZERO, usize::from(seed % 2 == 0));
        run.assert_over();
    }
}

#[test]
fn a_call_that_asks_for_the_offer_agrees_on_it() {
    for seed in 0..500 {
        let mut run = Run::stormy(seed);
        run.call(false);
        run.ring_and_answer();
        run.simulation.run_for(seconds(110));
        run.assert_agreed();
        run.hang_up_at(Duration::ZERO, usize::from(seed % 2 == 0));
        run.assert_over();
    }
}

#[test]
fn updates_of_either_side_at_any_moment_leave_both_with_the_same_session() {
    for seed in 0..500 {
        let mut run = Run::stormy(seed);
        run.call(true);
        run.ring_and_answer();
        for _ in 0..6 {
            let side = usize::from(run.rng.random_bool(0.5));
            let delay = run.milliseconds(0..60_000);
            run.update_at(delay, side);
            let glare = delay + run.milliseconds(0..300);
            run.update_at(glare, 1 - side);
        }
        run.simulation.run_for(seconds(170));
        run.assert_agreed();
        run.hang_up_at(Duration::ZERO, usize::from(seed % 2 == 0));
        run.assert_over();
    }
}

#[test]
fn a_hang_up_at_any_moment_of_a_reliable_set_up_ends_both_sides() {
    for seed in 0..1000 {
        let mut run = Run::stormy(seed);
        run.call(seed % 3 != 0);
        run.ring_and_answer();
        let moment = run.milliseconds(0..9000);
        let side = usize::from(run.rng.random_bool(0.5));
        run.hang_up_at(moment, side);
        let update = run.milliseconds(3000..9000);
        run.update_at(update, side);
        run.update_at(update, 1 - side);
        // Should the moment have come before the callee had a leg.
        run.hang_up_at(seconds(130), 1);
        run.hang_up_at(seconds(130), 0);
        run.assert_over();
    }
}

#[test]
fn a_session_refreshed_by_either_side_lasts_in_bad_weather() {
    for seed in 0..100 {
        let by = match seed % 2 {
            0 => RefreshedBy::Us,
            _ => RefreshedBy::Peer,
        };
        let extensions = Extensions {
            session_timer: SessionTimerSettings {
                interval: 90,
                refreshed_by: by,
                ..SessionTimerSettings::default()
            },
            ..Extensions::default()
        };
        // A refresh has 15 s to get through: heavier loss is a reason to hang up.
        let weather = Weather {
            loss: 0.05,
            duplication: 0.2,
            delay: 0..400,
        };
        let mut run = Run::new(seed, weather, extensions);
        run.call(true);
        run.ring_and_answer();
        run.simulation.run_for(seconds(1800));
        run.assert_agreed();
        assert!(!run.sides[0].borrow().ended && !run.sides[1].borrow().ended);
        run.hang_up_at(Duration::ZERO, usize::from(seed % 2 == 0));
        run.assert_over();
    }
}
