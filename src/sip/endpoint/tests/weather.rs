//! Two endpoints in bad weather: whatever is lost, repeated or out of order, both sides end in
//! the same state and nothing is left.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::sip::endpoint::simulation::{Simulation, Weather};
use crate::sip::endpoint::{EndCause, Endpoint, Event, Hangup, LegId, Stats};

/// What one side believes.
#[derive(Default, Debug)]
struct Belief {
    leg: Option<LegId>,
    established: bool,
    ended: Option<EndCause>,
    /// Ours, theirs.
    session: Option<(String, String)>,
    offered: Option<String>,
    count: u32,
    events_after_end: u32,
    legs_seen: u32,
}

impl Belief {
    fn next_description(&mut self, name: &str) -> String {
        self.count += 1;
        format!("v=0 {name} {}", self.count)
    }

    fn agree(&mut self, ours: String, theirs: &[u8]) {
        self.session = Some((ours, String::from_utf8(theirs.to_vec()).unwrap()));
    }
}

/// The owner of one side's leg: takes calls, answers offers, keeps book.
struct Side {
    name: &'static str,
    belief: Rc<RefCell<Belief>>,
}

impl Side {
    fn handle(&self, endpoint: &mut Endpoint, now: Instant, event: &Event) {
        let mut belief = self.belief.borrow_mut();
        if belief.ended.is_some() {
            belief.events_after_end += 1;
        }
        match event {
            Event::IncomingCall(call) => {
                belief.legs_seen += 1;
                belief.leg = Some(call.leg);
                let offer = call.offer.clone().unwrap();
                belief.session = Some((String::new(), String::from_utf8(offer).unwrap()));
            }
            Event::Answered { sdp, .. } => {
                belief.established = true;
                let ours = belief.offered.take().unwrap();
                belief.agree(ours, sdp);
            }
            Event::Confirmed { .. } => belief.established = true,
            Event::Offer { leg, sdp } => {
                let ours = belief.next_description(self.name);
                endpoint
                    .answer_offer(now, *leg, ours.clone().into_bytes())
                    .unwrap();
                belief.agree(ours, sdp.as_ref().unwrap());
            }
            Event::Answer { sdp, .. } => {
                let ours = belief.offered.take().unwrap();
                belief.agree(ours, sdp);
            }
            Event::OfferRefused { .. } => belief.offered = None,
            Event::Ended { cause, .. } => {
                assert!(belief.ended.is_none(), "ended twice");
                belief.ended = Some(cause.clone());
            }
            Event::Progress { .. }
            | Event::OfferWithdrawn { .. }
            | Event::Info { .. }
            | Event::ReferProgress { .. }
            | Event::ReferFinished { .. }
            | Event::ReferRequested(_)
            | Event::Registration { .. }
            | Event::Ping { .. } => {}
        }
    }
}

fn weather(rng: &mut StdRng) -> Weather {
    Weather {
        loss: rng.random_range(0.0..0.15),
        duplication: rng.random_range(0.0..0.3),
        delay: 0..rng.random_range(1..900),
    }
}

struct Run {
    simulation: Simulation,
    rng: StdRng,
    caller: usize,
    callee: usize,
    beliefs: [Rc<RefCell<Belief>>; 2],
}

fn milliseconds(rng: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        let mut simulation = Simulation::new(seed, weather(&mut rng));
        let beliefs = [(); 2].map(|()| Rc::new(RefCell::new(Belief::default())));
        let names = ["caller", "callee"];
        let [caller, callee] = [0, 1].map(|index| {
            let side = Side {
                name: names[index],
                belief: Rc::clone(&beliefs[index]),
            };
            simulation.add(move |endpoint, now, event| side.handle(endpoint, now, event))
        });
        Self {
            simulation,
            rng,
            caller,
            callee,
            beliefs,
        }
    }

    fn call(&mut self) {
        let offer = self.beliefs[0].borrow_mut().next_description("caller");
        self.beliefs[0].borrow_mut().offered = Some(offer.clone());
        let leg = self.simulation.call(self.caller, self.callee, &offer);
        self.beliefs[0].borrow_mut().leg = Some(leg);
    }

    /// Does something with a side's leg, if it has one by then.
    fn later(
        &mut self,
        delay: Duration,
        side: usize,
        action: impl FnOnce(&mut Endpoint, Instant, LegId, &mut Belief) + 'static,
    ) {
        let belief = Rc::clone(&self.beliefs[side]);
        self.simulation.later(delay, side, move |endpoint, now| {
            let mut belief = belief.borrow_mut();
            if let (Some(leg), None) = (belief.leg, &belief.ended) {
                action(endpoint, now, leg, &mut belief);
            }
        });
    }

    fn ring_and_answer(&mut self) {
        let ring = milliseconds(&mut self.rng, 1000..3000);
        let answer = ring + milliseconds(&mut self.rng, 0..4000);
        self.later(ring, 1, |endpoint, now, leg, _| {
            endpoint.ring(now, leg).unwrap();
        });
        // The INVITE may take several tries to arrive.
        for attempt in 0..4 {
            let delay = answer + Duration::from_secs(8 * attempt);
            self.later(delay, 1, |endpoint, now, leg, belief| {
                let ours = belief.next_description("callee");
                if endpoint.accept(now, leg, ours.clone().into_bytes()).is_ok() {
                    let (local, _) = belief.session.as_mut().unwrap();
                    *local = ours;
                }
            });
        }
    }

    fn offer_at(&mut self, delay: Duration, side: usize) {
        let name = ["caller", "callee"][side];
        self.later(delay, side, move |endpoint, now, leg, belief| {
            let ours = belief.next_description(name);
            if endpoint
                .reinvite(now, leg, ours.clone().into_bytes())
                .is_ok()
            {
                belief.offered = Some(ours);
            }
        });
    }

    fn hang_up_at(&mut self, delay: Duration, side: usize) {
        self.later(delay, side, |endpoint, now, leg, _| {
            endpoint.hangup(now, leg, Hangup::default()).unwrap();
        });
    }

    /// After every timer: both ended, once, and nothing is left.
    fn assert_over(&mut self, seed: u64) {
        self.simulation.run_for(Duration::from_secs(400));
        for (side, belief) in self.beliefs.iter().enumerate() {
            let belief = belief.borrow();
            assert_eq!(belief.events_after_end, 0, "seed {seed} side {side}");
            assert!(belief.legs_seen <= 1, "seed {seed}: a phantom call");
            if belief.leg.is_some() {
                assert!(
                    belief.ended.is_some(),
                    "seed {seed} side {side} never ended"
                );
            }
            let stats = self.simulation.endpoint(side).stats();
            assert_eq!(
                stats,
                Stats::default(),
                "seed {seed} side {side}: {}",
                self.trace()
            );
        }
    }

    fn assert_agreed(&self, seed: u64) {
        let (caller, callee) = (self.beliefs[0].borrow(), self.beliefs[1].borrow());
        assert!(
            caller.established,
            "seed {seed}: {caller:?} {}",
            self.trace()
        );
        assert!(
            callee.established,
            "seed {seed}: {callee:?} {}",
            self.trace()
        );
        let (local, remote) = caller.session.as_ref().unwrap();
        let other = Some((remote.clone(), local.clone()));
        assert_eq!(other, callee.session, "seed {seed}: {}", self.trace());
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

#[test]
fn answered_calls_agree_on_the_session_and_end_without_a_trace() {
    for seed in 0..500 {
        let mut run = Run::new(seed);
        run.call();
        run.ring_and_answer();
        run.simulation.run_for(Duration::from_secs(70));
        run.assert_agreed(seed);
        run.hang_up_at(Duration::ZERO, usize::from(seed % 2 == 0));
        run.assert_over(seed);
    }
}

#[test]
fn offers_from_both_sides_with_glare_leave_both_with_the_same_session() {
    for seed in 0..500 {
        let mut run = Run::new(seed);
        run.call();
        run.ring_and_answer();
        run.simulation.run_for(Duration::from_secs(70));
        for _ in 0..4 {
            let side = usize::from(run.rng.random_bool(0.5));
            let delay = milliseconds(&mut run.rng, 0..6000);
            run.offer_at(delay, side);
            let glare = delay + milliseconds(&mut run.rng, 0..300);
            run.offer_at(glare, 1 - side);
        }
        run.simulation.run_for(Duration::from_secs(120));
        run.assert_agreed(seed);
        run.hang_up_at(Duration::ZERO, usize::from(seed % 2 == 0));
        run.assert_over(seed);
    }
}

#[test]
fn a_hang_up_at_any_moment_by_either_or_both_ends_both_sides() {
    for seed in 0..1000 {
        let mut run = Run::new(seed);
        run.call();
        run.ring_and_answer();
        let moment = milliseconds(&mut run.rng, 0..9000);
        match run.rng.random_range(0..3) {
            2 => {
                let apart = milliseconds(&mut run.rng, 0..500);
                run.hang_up_at(moment, 0);
                run.hang_up_at(moment + apart, 1);
            }
            side => run.hang_up_at(moment, side),
        }
        // Should the moment have come before the callee had a leg.
        run.hang_up_at(Duration::from_secs(80), 1);
        run.hang_up_at(Duration::from_secs(80), 0);
        run.assert_over(seed);
    }
}

#[test]
fn a_refusal_reaches_the_caller_and_leaves_nothing() {
    for seed in 0..500 {
        let mut run = Run::new(seed);
        run.call();
        for attempt in 0..4 {
            run.later(
                Duration::from_secs(2 + 7 * attempt),
                1,
                |endpoint, now, leg, _| {
                    endpoint.reject(now, leg, 486, Vec::new()).unwrap();
                },
            );
        }
        run.assert_over(seed);
        let caller = run.beliefs[0].borrow();
        let Some(EndCause::Rejected { status, .. }) = &caller.ended else {
            panic!("seed {seed}: {:?}", caller.ended);
        };
        assert_eq!(*status, 486, "seed {seed}");
    }
}

#[test]
fn hang_ups_amid_offers_end_both_sides() {
    for seed in 0..500 {
        let mut run = Run::new(seed);
        run.call();
        run.ring_and_answer();
        run.simulation.run_for(Duration::from_secs(70));
        let offer = milliseconds(&mut run.rng, 0..2000);
        let side = usize::from(run.rng.random_bool(0.5));
        run.offer_at(offer, side);
        run.offer_at(offer, 1 - side);
        let hang_up = offer + milliseconds(&mut run.rng, 0..2500);
        let side = usize::from(run.rng.random_bool(0.5));
        run.hang_up_at(hang_up, side);
        run.assert_over(seed);
    }
}
