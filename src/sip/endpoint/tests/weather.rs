//! Two endpoints in bad weather: whatever is lost, repeated or out of order, both sides end in
//! the same state and nothing is left.

use rand::RngExt;

use super::seconds;
use super::storm::{Run, text};
use crate::sip::endpoint::{EndCause, Endpoint};

/// Rings and answers, each at a time of its own.
fn ring_and_answer(run: &mut Run) {
    let ring = run.milliseconds(1000..3000);
    let answer = ring + run.milliseconds(0..4000);
    run.later(ring, 1, |endpoint, now, leg, _| {
        endpoint.ring(now, leg).unwrap();
    });
    // The INVITE may take several tries to arrive.
    for attempt in 0..4 {
        run.later(
            answer + seconds(8 * attempt),
            1,
            |endpoint, now, leg, side| {
                let ours = side.describe("callee");
                if endpoint.accept(now, leg, ours.clone()).is_ok() {
                    side.session.0 = text(&ours);
                }
            },
        );
    }
}

#[test]
fn answered_calls_agree_on_the_session_and_end_without_a_trace() {
    for seed in 0..500 {
        let mut run = Run::stormy(seed);
        run.call(true);
        ring_and_answer(&mut run);
        run.simulation.run_for(seconds(70));
        run.assert_agreed();
        run.hang_up_and_assert_over();
    }
}

#[test]
fn offers_from_both_sides_with_glare_leave_both_with_the_same_session() {
    for seed in 0..500 {
        let mut run = Run::stormy(seed);
        run.call(true);
        ring_and_answer(&mut run);
        run.simulation.run_for(seconds(70));
        for _ in 0..4 {
            let side = run.side();
            let delay = run.milliseconds(0..6000);
            run.offer_at(delay, side, Endpoint::reinvite);
            let glare = delay + run.milliseconds(0..300);
            run.offer_at(glare, 1 - side, Endpoint::reinvite);
        }
        run.simulation.run_for(seconds(120));
        run.assert_agreed();
        run.hang_up_and_assert_over();
    }
}

#[test]
fn a_hang_up_at_any_moment_by_either_or_both_ends_both_sides() {
    for seed in 0..1000 {
        let mut run = Run::stormy(seed);
        run.call(true);
        ring_and_answer(&mut run);
        let moment = run.milliseconds(0..9000);
        match run.rng.random_range(0..3) {
            2 => {
                let apart = run.milliseconds(0..500);
                run.hang_up_at(moment, 0);
                run.hang_up_at(moment + apart, 1);
            }
            side => run.hang_up_at(moment, side),
        }
        // Should the moment have come before the callee had a leg.
        run.hang_up_at(seconds(80), 1);
        run.hang_up_at(seconds(80), 0);
        run.assert_over();
    }
}

#[test]
fn a_refusal_reaches_the_caller_and_leaves_nothing() {
    for seed in 0..500 {
        let mut run = Run::stormy(seed);
        run.call(true);
        for attempt in 0..4 {
            run.later(seconds(2 + 7 * attempt), 1, |endpoint, now, leg, _| {
                endpoint.reject(now, leg, 486, Vec::new()).unwrap();
            });
        }
        run.assert_over();
        let caller = run.sides[0].borrow();
        let Some(EndCause::Rejected { status, .. }) = &caller.ended else {
            panic!("seed {seed}: {:?}", caller.ended);
        };
        assert_eq!(*status, 486, "seed {seed}");
    }
}

#[test]
fn hang_ups_amid_offers_end_both_sides() {
    for seed in 0..500 {
        let mut run = Run::stormy(seed);
        run.call(true);
        ring_and_answer(&mut run);
        run.simulation.run_for(seconds(70));
        let offer = run.milliseconds(0..2000);
        let side = run.side();
        run.offer_at(offer, side, Endpoint::reinvite);
        run.offer_at(offer, 1 - side, Endpoint::reinvite);
        let hang_up = offer + run.milliseconds(0..2500);
        let side = run.side();
        run.hang_up_at(hang_up, side);
        run.assert_over();
    }
}
