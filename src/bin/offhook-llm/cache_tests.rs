use super::*;

const SIZE: CacheSize = CacheSize {
    cells: 100,
    calls: 3,
    prefixes: 2,
    divisible: true,
};

fn tokens(range: std::ops::Range<i32>) -> Vec<LlamaToken> {
    range.map(LlamaToken).collect()
}

fn call(number: u8) -> CallId {
    CallId::from_random([number; 16])
}

fn owner(number: u8) -> Owner {
    Owner::Call(call(number))
}

/// A request from admission to its end: the prompt is read and `written` more tokens.
fn serve(cache: &mut Cache, number: u8, prompt: &[LlamaToken], written: usize) -> Admission {
    let admission = cache.admit(owner(number), prompt, 1, written).unwrap();
    cache.extend(admission.sequence, &prompt[admission.cached..]);
    cache.extend(admission.sequence, &vec![LlamaToken(-1); written]);
    cache.finish(admission.sequence);
    admission
}

#[test]
fn the_second_turn_reads_only_what_is_new() {
    let mut cache = Cache::new(SIZE);
    let first = serve(&mut cache, 1, &tokens(0..20), 0);
    assert_eq!((first.cached, first.copy_from), (0, None));
    let second = cache.admit(owner(1), &tokens(0..30), 1, 10).unwrap();
    assert_eq!((second.sequence, second.cached), (first.sequence, 20));
    assert!(second.clear.is_empty());
}

#[test]
fn a_history_cut_by_an_interruption_is_read_again_from_the_cut() {
    let mut cache = Cache::new(SIZE);
    serve(&mut cache, 1, &tokens(0..30), 8);
    let mut heard = tokens(0..30);
    heard.extend([LlamaToken(-1), LlamaToken(-1), LlamaToken(99)]);
    let next = cache.admit(owner(1), &heard, 1, 5).unwrap();
    assert_eq!(
        next.cached, 32,
        "the prompt and the two tokens that were heard"
    );
    assert_eq!(cache.length(next.sequence), 32);
}

#[test]
fn the_same_prompt_again_still_has_one_token_to_be_read() {
    let mut cache = Cache::new(SIZE);
    serve(&mut cache, 1, &tokens(0..20), 0);
    assert_eq!(
        cache.admit(owner(1), &tokens(0..20), 1, 5).unwrap().cached,
        19
    );
}

#[test]
fn other_calls_start_with_a_copy_of_the_prefix_that_costs_no_cells() {
    let mut cache = Cache::new(SIZE);
    let first = cache.admit(owner(1), &tokens(0..50), 1, 0).unwrap();
    cache.extend(first.sequence, &tokens(0..40));
    assert!(!cache.has_prefix(&tokens(0..40)));
    let prefix = cache.keep_prefix(first.sequence, 40).unwrap();
    assert!(cache.has_prefix(&tokens(0..40)));
    cache.extend(first.sequence, &tokens(40..50));
    cache.finish(first.sequence);
    assert_eq!(cache.cells_used(), 50);

    let mut other = tokens(0..40);
    other.extend(tokens(70..75));
    let second = cache.admit(owner(2), &other, 1, 5).unwrap();
    assert_eq!((second.copy_from, second.cached), (Some(prefix), 40));
    assert_eq!(
        cache.cells_used(),
        60,
        "five of the prompt and five promised to the reply"
    );
}

#[test]
fn a_prefix_that_only_begins_like_the_prompt_is_used_as_far_as_it_goes() {
    let mut cache = Cache::new(SIZE);
    let warm = cache.admit(Owner::Warming, &tokens(0..40), 1, 0).unwrap();
    cache.extend(warm.sequence, &tokens(0..40));
    cache.keep_prefix(warm.sequence, 40).unwrap();
    cache.forget(warm.sequence);
    let mut prompt = tokens(0..25);
    prompt.extend(tokens(60..70));
    assert_eq!(cache.admit(owner(1), &prompt, 1, 0).unwrap().cached, 25);
}

#[test]
fn a_state_that_cannot_be_cut_is_used_whole_or_not_at_all() {
    let mut cache = Cache::new(CacheSize {
        divisible: false,
        ..SIZE
    });
    serve(&mut cache, 1, &tokens(0..20), 0);
    let mut other = tokens(0..10);
    other.extend(tokens(50..60));
    assert_eq!(cache.admit(owner(1), &other, 1, 0).unwrap().cached, 0);
    let mut cache = Cache::new(CacheSize {
        divisible: false,
        ..SIZE
    });
    serve(&mut cache, 1, &tokens(0..20), 0);
    assert_eq!(
        cache.admit(owner(1), &tokens(0..25), 1, 0).unwrap().cached,
        20
    );
}

#[test]
fn the_call_idle_the_longest_gives_way_to_a_new_one() {
    let mut cache = Cache::new(SIZE);
    for number in 1..=3 {
        serve(&mut cache, number, &tokens(0..10), 0);
    }
    let first = serve(&mut cache, 1, &tokens(0..12), 0).sequence;
    let fourth = serve(&mut cache, 4, &tokens(0..10), 0);
    assert_eq!(fourth.clear, [fourth.sequence]);
    assert_ne!(
        fourth.sequence, first,
        "call 1 has spoken since, call 2 has not"
    );
    assert_eq!(serve(&mut cache, 1, &tokens(0..14), 0).cached, 12);
}

#[test]
fn cells_run_out_before_sequences_do() {
    let mut cache = Cache::new(SIZE);
    let first = serve(&mut cache, 1, &tokens(0..40), 0).sequence;
    serve(&mut cache, 2, &tokens(0..40), 0);
    let third = serve(&mut cache, 3, &tokens(0..50), 0);
    assert_eq!(third.clear, [first]);
    assert!(cache.cells_used() <= SIZE.cells);
}

#[test]
fn calls_being_answered_are_never_evicted() {
    let mut cache = Cache::new(SIZE);
    let first = cache.admit(owner(1), &tokens(0..40), 1, 30).unwrap();
    cache.extend(first.sequence, &tokens(0..40));
    assert_eq!(
        cache.admit(owner(2), &tokens(0..40), 1, 0),
        Err(Refusal::Full)
    );
    assert_eq!(cache.cells_used(), 70, "a refusal changes nothing");
    cache.finish(first.sequence);
    assert_eq!(
        cache.admit(owner(2), &tokens(0..90), 1, 0).unwrap().clear,
        [first.sequence]
    );
}

#[test]
fn more_calls_than_sequences_wait() {
    let mut cache = Cache::new(SIZE);
    for number in 1..=3 {
        cache.admit(owner(number), &tokens(0..5), 1, 5).unwrap();
    }
    assert_eq!(
        cache.admit(owner(4), &tokens(0..5), 1, 5),
        Err(Refusal::Full)
    );
}

#[test]
fn a_prefix_stays_while_a_call_shares_it_and_goes_when_room_is_needed() {
    let mut cache = Cache::new(SIZE);
    let first = cache.admit(owner(1), &tokens(0..41), 1, 0).unwrap();
    cache.extend(first.sequence, &tokens(0..40));
    let prefix = cache.keep_prefix(first.sequence, 40).unwrap();
    cache.extend(first.sequence, &tokens(40..41));
    assert_eq!(
        cache.admit(owner(2), &tokens(200..270), 1, 0),
        Err(Refusal::Full)
    );
    cache.finish(first.sequence);
    let second = cache.admit(owner(2), &tokens(200..270), 1, 0).unwrap();
    assert_eq!(second.clear, [first.sequence, prefix]);
}

#[test]
fn a_prefix_in_use_is_not_replaced() {
    let mut cache = Cache::new(CacheSize {
        prefixes: 1,
        ..SIZE
    });
    let first = cache.admit(owner(1), &tokens(0..20), 1, 0).unwrap();
    cache.extend(first.sequence, &tokens(0..20));
    cache.keep_prefix(first.sequence, 10).unwrap();
    let second = cache.admit(owner(2), &tokens(50..70), 1, 0).unwrap();
    cache.extend(second.sequence, &tokens(50..70));
    assert_eq!(cache.keep_prefix(second.sequence, 10), None);
    cache.finish(first.sequence);
    assert_eq!(cache.release(call(1)), Some(first.sequence));
    assert!(cache.keep_prefix(second.sequence, 10).is_some());
}

#[test]
fn a_released_call_leaves_nothing_behind() {
    let mut cache = Cache::new(SIZE);
    let sequence = serve(&mut cache, 1, &tokens(0..20), 0).sequence;
    assert_eq!(cache.release(call(2)), None);
    assert_eq!(cache.release(call(1)), Some(sequence));
    assert_eq!(cache.cells_used(), 0);
}

#[test]
fn what_could_never_fit_is_told_apart_from_what_has_to_wait() {
    let mut cache = Cache::new(SIZE);
    assert_eq!(
        cache.admit(owner(1), &tokens(0..90), 1, 11),
        Err(Refusal::TooLong)
    );
    assert_eq!(cache.admit(owner(1), &[], 1, 5), Err(Refusal::TooLong));
    assert!(cache.admit(owner(1), &tokens(0..90), 1, 10).is_ok());
}

#[test]
fn whatever_happens_no_more_cells_are_promised_than_there_are() {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    let mut rng = StdRng::seed_from_u64(3);
    let mut cache = Cache::new(SIZE);
    let mut busy: Vec<(Sequence, Vec<LlamaToken>)> = Vec::new();
    for _ in 0..5000 {
        let system = rng.random_range(0..3) * 1000;
        let mut prompt = tokens(system..system + 20);
        let said = rng.random_range(0..4) * 100;
        prompt.extend(tokens(said..said + rng.random_range(1..30)));
        let number = rng.random_range(0..6);
        let talking = |at: &Sequence| busy.iter().any(|(other, _)| other == at);
        if let Ok(admission) = cache.admit(owner(number), &prompt, 1, rng.random_range(0..20)) {
            assert!(!talking(&admission.sequence), "given to two at once");
            assert!(
                !admission.clear.iter().any(talking),
                "cleared under a reply"
            );
            cache.extend(admission.sequence, &prompt[admission.cached..]);
            if !cache.has_prefix(&prompt[..20]) && rng.random_bool(0.5) {
                cache.keep_prefix(admission.sequence, 20);
            }
            busy.push((admission.sequence, prompt));
        }
        assert!(cache.cells_used() <= SIZE.cells);
        if !busy.is_empty() && rng.random_bool(0.5) {
            let (sequence, _) = busy.swap_remove(rng.random_range(0..busy.len()));
            cache.finish(sequence);
        }
    }
}
