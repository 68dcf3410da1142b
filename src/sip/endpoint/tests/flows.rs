//! Set-up with early media, UPDATE, late offers and session refreshes between two endpoints in
//! bad weather: both sides end with the same session, and nothing is left.

use super::seconds;
use super::storm::{Run, text};
use crate::sip::endpoint::simulation::Weather;
use crate::sip::endpoint::{Endpoint, Extensions, RefreshedBy, SessionTimerSettings};

/// Rings, sends early media and answers, each at a time of its own.
fn ring_and_answer(run: &mut Run) {
    let ring = run.milliseconds(1000..3000);
    let media = ring + run.milliseconds(0..2000);
    let answer = media + run.milliseconds(0..4000);
    // The INVITE may take several tries to arrive.
    for attempt in 0..4 {
        let again = seconds(8 * attempt);
        run.later(ring + again, 1, |endpoint, now, leg, _| {
            let _ = endpoint.ring(now, leg);
        });
        run.later(media + again, 1, |endpoint, now, leg, side| {
            if side.session.0.is_empty() {
                let ours = side.describe("callee");
                if endpoint.progress(now, leg, 183, Some(ours.clone())).is_ok() {
                    side.session.0 = text(&ours);
                }
            }
        });
        run.later(answer + again, 1, |endpoint, now, leg, side| {
            // What early media said stands.
            let ours = side.session.0.clone().into_bytes();
            if !ours.is_empty() {
                let _ = endpoint.accept(now, leg, ours);
            }
        });
    }
}

#[test]
fn early_media_and_its_answer_are_the_same_on_both_sides() {
    for seed in 0..500 {
        let mut run = Run::stormy(seed);
        run.call(true);
        ring_and_answer(&mut run);
        run.simulation.run_for(seconds(110));
        run.assert_agreed();
        run.hang_up_and_assert_over();
    }
}

#[test]
fn a_call_that_asks_for_the_offer_agrees_on_it() {
    for seed in 0..500 {
        let mut run = Run::stormy(seed);
        run.call(false);
        ring_and_answer(&mut run);
        run.simulation.run_for(seconds(110));
        run.assert_agreed();
        run.hang_up_and_assert_over();
    }
}

#[test]
fn updates_of_either_side_at_any_moment_leave_both_with_the_same_session() {
    for seed in 0..500 {
        let mut run = Run::stormy(seed);
        run.call(true);
        ring_and_answer(&mut run);
        for _ in 0..6 {
            let side = run.side();
            let delay = run.milliseconds(0..60_000);
            run.offer_at(delay, side, Endpoint::update);
            let glare = delay + run.milliseconds(0..300);
            run.offer_at(glare, 1 - side, Endpoint::update);
        }
        run.simulation.run_for(seconds(170));
        run.assert_agreed();
        run.hang_up_and_assert_over();
    }
}

#[test]
fn a_hang_up_at_any_moment_of_a_reliable_set_up_ends_both_sides() {
    for seed in 0..1000 {
        let mut run = Run::stormy(seed);
        run.call(seed % 3 != 0);
        ring_and_answer(&mut run);
        let moment = run.milliseconds(0..9000);
        let side = run.side();
        run.hang_up_at(moment, side);
        let update = run.milliseconds(3000..9000);
        run.offer_at(update, side, Endpoint::update);
        run.offer_at(update, 1 - side, Endpoint::update);
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
        ring_and_answer(&mut run);
        run.simulation.run_for(seconds(1800));
        run.assert_agreed();
        assert!(run.sides.iter().all(|side| side.borrow().ended.is_none()));
        run.hang_up_and_assert_over();
    }
}
