use super::*;

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.push(HeaderName::new(name), value);
    }
    headers
}

fn agreed(fields: &[(&str, &str)]) -> Result<Option<(String, bool)>, u32> {
    let settings = SessionTimerSettings::default();
    match Agreement::with(&settings, &headers(fields), None) {
        Ok(agreement) => Ok(agreement.map(|it| (it.expires.to_string(), it.required))),
        Err(TooSmall(minimum)) => Err(minimum),
    }
}

#[test]
fn the_callee_answers_as_the_table_of_section_9_asks() {
    let knows = ("Supported", "timer");
    for (fields, expected) in [
        // A proxy wants a timer and the caller knows of none: we refresh.
        (
            vec![("Session-Expires", "600")],
            ("600;refresher=uas", false),
        ),
        (
            vec![("Session-Expires", "600;refresher=uac")],
            ("600;refresher=uas", false),
        ),
        // It does, and leaves the choice to us.
        (vec![knows], ("1800;refresher=uas", false)),
        (
            vec![knows, ("Session-Expires", "600")],
            ("600;refresher=uas", false),
        ),
        // It chose.
        (
            vec![knows, ("Session-Expires", "600;refresher=uac")],
            ("600;refresher=uac", true),
        ),
        (
            vec![knows, ("Session-Expires", "600;refresher=uas")],
            ("600;refresher=uas", false),
        ),
        (
            vec![("Require", "timer"), ("x", "90;refresher=UAC")],
            ("90;refresher=uac", true),
        ),
        // Ours is the shorter one, but not shorter than it allows.
        (
            vec![knows, ("Session-Expires", "7200")],
            ("1800;refresher=uas", false),
        ),
        (
            vec![knows, ("Session-Expires", "7200"), ("Min-SE", "3600")],
            ("3600;refresher=uas", false),
        ),
        // What cannot be read is not there.
        (
            vec![knows, ("Session-Expires", "soon")],
            ("1800;refresher=uas", false),
        ),
    ] {
        let expected = Ok(Some((expected.0.to_owned(), expected.1)));
        assert_eq!(agreed(&fields), expected, "{fields:?}");
    }
}

#[test]
fn too_small_an_interval_is_refused_unless_the_caller_could_not_mend_it() {
    let small = ("Session-Expires", "60");
    assert_eq!(agreed(&[("Supported", "timer"), small]), Err(90));
    // A proxy put it there: 422 would mean nothing to the caller.
    let raised = Ok(Some(("90;refresher=uas".to_owned(), false)));
    assert_eq!(agreed(&[small]), raised);
}

#[test]
fn nobody_who_knows_nothing_of_timers_gets_one() {
    assert_eq!(agreed(&[]), Ok(None));
    assert_eq!(
        agreed(&[("Supported", "100rel"), ("Min-SE", "90")]),
        Ok(None)
    );
}

#[test]
fn without_timers_nothing_is_agreed_or_proposed() {
    let settings = SessionTimerSettings {
        support: Support::Off,
        ..SessionTimerSettings::default()
    };
    let asked = headers(&[("Supported", "timer"), ("Session-Expires", "60")]);
    assert_eq!(Agreement::with(&settings, &asked, None), Ok(None));
    assert_eq!(Proposal::first(&settings), None);
}

fn deadlines(timer: &SessionTimer, now: Instant) -> (u64, &'static str) {
    let (at, name) = timer.deadline();
    ((at - now).as_secs(), name)
}

#[test]
fn the_caller_takes_what_the_2xx_says() {
    let now = Instant::now();
    let proposal = Proposal::first(&SessionTimerSettings::default()).unwrap();
    let accepted = |value: &str| {
        let timer = proposal.accepted(now, &headers(&[("Session-Expires", value)]), None);
        timer.map(|timer| deadlines(&timer, now))
    };
    assert_eq!(accepted("90;refresher=uac"), Some((45, "session refresh")));
    assert_eq!(accepted("90;refresher=uas"), Some((60, "session expiry")));
    assert_eq!(
        accepted("1800;refresher=uas"),
        Some((1768, "session expiry"))
    );
    assert_eq!(accepted("1800"), Some((900, "session refresh")));
    assert_eq!(proposal.accepted(now, &Headers::new(), None), None);
}

#[test]
fn a_refresh_whose_answer_says_nothing_keeps_our_timer_running() {
    let now = Instant::now();
    let ours = SessionTimer::start(now, 90, RefreshedBy::Us);
    let kept = Proposal::again(&ours).accepted(now, &Headers::new(), Some(&ours));
    assert_eq!(kept, Some(ours));
    let theirs = SessionTimer::start(now, 90, RefreshedBy::Peer);
    let kept = Proposal::again(&theirs).accepted(now, &Headers::new(), Some(&theirs));
    assert_eq!(kept, None, "nobody would refresh it");
}

#[test]
fn a_422_makes_the_proposal_grow_and_one_that_asks_for_nothing_new_does_not() {
    let proposal = Proposal::first(&SessionTimerSettings::default()).unwrap();
    let grown = proposal.grown(3600).unwrap();
    let mut request = Headers::new();
    grown.write(&mut request);
    assert_eq!(request.get(&HeaderName::SessionExpires), Some("3600"));
    assert_eq!(request.get(&HeaderName::MinSe), Some("3600"));
    assert_eq!(grown.grown(3600), None);
    assert_eq!(proposal.grown(90), None);
}

#[test]
fn a_refresh_is_taken_once_until_it_is_tried_again() {
    let now = Instant::now();
    let mut timer = SessionTimer::start(now, 90, RefreshedBy::Us);
    let half = now + Duration::from_secs(45);
    assert!(!timer.take_refresh(now));
    assert!(timer.take_refresh(half));
    assert!(!timer.take_refresh(half));
    assert_eq!(deadlines(&timer, now), (60, "session expiry"));
    timer.retry(half + Duration::from_secs(5));
    assert_eq!(deadlines(&timer, now), (50, "session refresh"));
    assert!(!timer.is_over(half));
    assert!(timer.is_over(now + Duration::from_secs(60)));
}
