use std::time::Duration;

use super::*;

fn call(number: u8) -> Option<CallId> {
    Some(CallId::from_random([number; 16]))
}

fn waiting(id: u64, call: Option<CallId>, priority: Priority) -> Waiting<()> {
    let until = Instant::now() + Duration::from_secs(id);
    Waiting {
        id: RequestId(id),
        call,
        priority,
        until,
        item: (),
    }
}

fn drain(scheduler: &mut Scheduler<()>) -> Vec<u64> {
    std::iter::from_fn(|| scheduler.pop())
        .map(|entry| entry.id.0)
        .collect()
}

#[test]
fn a_call_with_one_clause_does_not_wait_for_all_five_of_another() {
    let mut scheduler = Scheduler::new(10);
    for id in 1..=5 {
        scheduler.push(waiting(id, call(1), Priority::Waiting));
    }
    assert_eq!(scheduler.pop().unwrap().id.0, 1);
    scheduler.push(waiting(6, call(2), Priority::Waiting));
    scheduler.push(waiting(7, call(2), Priority::Waiting));
    assert_eq!(drain(&mut scheduler), [6, 2, 7, 3, 4, 5]);
}

#[test]
fn whoever_waits_goes_before_speculation_and_housekeeping() {
    let mut scheduler = Scheduler::new(10);
    scheduler.push(waiting(1, None, Priority::Speculative));
    scheduler.push(waiting(2, call(1), Priority::Speculative));
    scheduler.push(waiting(3, call(2), Priority::Waiting));
    assert_eq!(drain(&mut scheduler), [3, 1, 2]);
}

#[test]
fn a_promoted_request_overtakes_speculation() {
    let mut scheduler = Scheduler::new(10);
    scheduler.push(waiting(1, call(1), Priority::Speculative));
    scheduler.push(waiting(2, call(2), Priority::Speculative));
    scheduler.promote(RequestId(2));
    assert_eq!(drain(&mut scheduler), [2, 1]);
}

#[test]
fn a_full_queue_refuses_equals_and_gives_up_the_youngest_speculation_for_who_waits() {
    let mut scheduler = Scheduler::new(3);
    scheduler.push(waiting(1, call(1), Priority::Speculative));
    scheduler.push(waiting(2, call(2), Priority::Speculative));
    scheduler.push(waiting(3, call(3), Priority::Waiting));
    let refused = scheduler.push(waiting(4, call(4), Priority::Speculative));
    assert!(matches!(refused, Pushed::Refused(entry) if entry.id.0 == 4));
    let replaced = scheduler.push(waiting(5, call(5), Priority::Waiting));
    assert!(matches!(replaced, Pushed::InPlaceOf(entry) if entry.id.0 == 2));
    let replaced = scheduler.push(waiting(6, call(6), Priority::Waiting));
    assert!(matches!(replaced, Pushed::InPlaceOf(entry) if entry.id.0 == 1));
    let refused = scheduler.push(waiting(7, call(7), Priority::Waiting));
    assert!(matches!(refused, Pushed::Refused(entry) if entry.id.0 == 7));
    assert_eq!(drain(&mut scheduler), [3, 5, 6]);
}

#[test]
fn what_waited_too_long_is_taken_out_and_the_rest_keeps_its_order() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(10);
    for id in [30, 10, 40, 20] {
        let mut entry = waiting(id, call(1), Priority::Waiting);
        entry.until = now + Duration::from_secs(id);
        scheduler.push(entry);
    }
    assert_eq!(scheduler.deadline(), Some(now + Duration::from_secs(10)));
    let expired = scheduler.expire(now + Duration::from_secs(20));
    assert_eq!(
        expired.iter().map(|entry| entry.id.0).collect::<Vec<_>>(),
        [10, 20]
    );
    assert_eq!(drain(&mut scheduler), [30, 40]);
    assert_eq!(scheduler.deadline(), None);
}

#[test]
fn a_cancelled_request_is_gone() {
    let mut scheduler = Scheduler::new(10);
    scheduler.push(waiting(1, call(1), Priority::Waiting));
    assert!(scheduler.remove(RequestId(1)).is_some());
    assert!(scheduler.remove(RequestId(1)).is_none());
    assert!(scheduler.pop().is_none());
}

#[test]
fn memory_of_turns_is_bounded() {
    let mut scheduler = Scheduler::new(1);
    for number in 0..1000u32 {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        let call = Some(CallId::from_random(bytes));
        scheduler.push(waiting(1, call, Priority::Waiting));
        scheduler.pop();
    }
    assert_eq!(scheduler.served.len(), REMEMBERED_CALLS);
}
