//! Against a real child process: this test binary, which runs [`child::worker_process`] when the
//! environment says so.

mod child;

use std::process::Command;

use super::*;
use crate::engines::EngineEvent;
use child::{Ask, Test, spec};

async fn ready(mode: &str) -> Supervisor<Test> {
    let supervisor = Supervisor::start(spec(mode));
    supervisor.ready().await.unwrap();
    supervisor
}

const LONG: Limits = Limits {
    wait: Duration::from_secs(60),
    progress: Duration::from_secs(60),
};

fn ask(body: Ask) -> Submission<Test> {
    let payload = vec![1, 2, 3];
    Submission {
        call: None,
        priority: Priority::Waiting,
        limits: LONG,
        body,
        payload,
    }
}

async fn echo(supervisor: &Supervisor<Test>) -> u32 {
    supervisor
        .submit(ask(Ask::Echo))
        .unwrap()
        .done()
        .await
        .unwrap()
        .0
}

async fn until(supervisor: &Supervisor<Test>, what: impl Fn(&WorkerSnapshot) -> bool) {
    while !what(&supervisor.snapshot()) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn pid(number: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn signal(number: u32, signal: rustix::process::Signal) {
    rustix::process::kill_process(pid(number), signal).unwrap();
}

/// Whether a process runs: not gone and not a zombie.
fn runs(number: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{number}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}

fn died() -> EngineError {
    EngineError::WorkerDied {
        engine: "test".into(),
    }
}

#[tokio::test]
async fn a_request_is_answered_with_its_payload_and_the_facts_are_known() {
    let supervisor = ready("some fact").await;
    let (_, payload) = supervisor
        .submit(ask(Ask::Echo))
        .unwrap()
        .done()
        .await
        .unwrap();
    assert_eq!(payload, [3, 2, 1]);
    assert_eq!(supervisor.facts().borrow().as_deref(), Some("some fact"));
    let state = supervisor.state().borrow().clone();
    assert_eq!(
        state,
        WorkerState::Ready {
            model: "tiny".into()
        }
    );
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_worker_runs_only_when_nothing_else_wants_to_and_hears_no_ctrl_c() {
    let mut spec = spec("");
    spec.scheduling = Scheduling::Idle;
    let supervisor = Supervisor::<Test>::start(spec);
    let worker = echo(&supervisor).await;
    let tasks = std::fs::read_dir(format!("/proc/{worker}/task")).unwrap();
    // libtest's own main thread is older than the worker; the reader was started by it.
    let reader = tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap())
        .find(|stat| stat.contains("(frames)"))
        .unwrap();
    // proc(5): the process group is field 5, the policy field 41; the first here is field 3.
    let fields: Vec<_> = reader.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(fields[5 - 3], worker.to_string());
    let sched_idle = "5";
    assert_eq!(fields[41 - 3], sched_idle);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn parts_come_in_order_and_end_once() {
    let supervisor = ready("").await;
    let mut responses = supervisor.submit(ask(Ask::Parts { count: 300 })).unwrap();
    for number in 0..300 {
        let part = responses.next().await;
        assert_eq!(
            part,
            Some(Response::Part {
                body: number,
                payload: vec![]
            })
        );
    }
    let end = responses.next().await;
    assert_eq!(
        end,
        Some(Response::Done {
            body: 300,
            payload: vec![]
        })
    );
    assert_eq!(responses.next().await, None);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_death_fails_what_was_in_flight_at_once_and_the_queue_goes_to_the_successor() {
    let supervisor = ready("").await;
    let first = echo(&supervisor).await;
    let mut in_flight = supervisor.submit(ask(Ask::Sleep)).unwrap();
    assert!(matches!(
        in_flight.next().await,
        Some(Response::Part { .. })
    ));
    let queued = supervisor.submit(ask(Ask::Echo)).unwrap();

    signal(first, rustix::process::Signal::KILL);

    assert_eq!(in_flight.next().await, Some(Response::Failed(died())));
    let (second, _) = queued.done().await.unwrap();
    assert_ne!(first, second);
    let snapshot = supervisor.snapshot();
    assert_eq!(
        (snapshot.deaths, snapshot.starts, snapshot.killed),
        (1, 2, 0)
    );
    supervisor.shutdown().await;
}

#[tokio::test]
async fn an_abort_inside_a_request_fails_it_and_the_next_one_works() {
    let supervisor = ready("").await;
    for _ in 0..3 {
        let failed = supervisor.submit(ask(Ask::Abort)).unwrap().done().await;
        assert_eq!(failed.unwrap_err(), died());
        echo(&supervisor).await;
    }
    let failed = supervisor.submit(ask(Ask::Exit)).unwrap().done().await;
    assert_eq!(failed.unwrap_err(), died());
    echo(&supervisor).await;
    assert_eq!(supervisor.snapshot().deaths, 4);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_hung_worker_is_killed_and_the_request_timed_out() {
    let supervisor = ready("").await;
    let first = echo(&supervisor).await;
    let mut hang = ask(Ask::Hang);
    hang.limits.progress = Duration::from_millis(300);
    let hung = supervisor.submit(hang).unwrap();
    let behind = supervisor.submit(ask(Ask::Echo)).unwrap();
    assert_eq!(hung.done().await.unwrap_err(), EngineError::TimedOut);
    let (second, _) = behind.done().await.unwrap();
    assert_ne!(first, second);
    assert_eq!(supervisor.snapshot().killed, 1);
    assert!(!runs(first));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_stopped_process_counts_as_hung() {
    let supervisor = ready("").await;
    let first = echo(&supervisor).await;
    signal(first, rustix::process::Signal::STOP);
    let mut request = ask(Ask::Echo);
    request.limits.progress = Duration::from_millis(300);
    // More than a pipe holds, so that the write does not end either.
    request.payload = vec![0; 1024 * 1024];
    let failed = supervisor.submit(request).unwrap().done().await;
    assert_eq!(failed.unwrap_err(), EngineError::TimedOut);
    assert_ne!(echo(&supervisor).await, first);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn slow_work_that_progresses_is_left_alone() {
    let supervisor = ready("").await;
    let mut work = ask(Ask::Work { steps: 12 });
    work.limits.progress = Duration::from_millis(900);
    supervisor.submit(work).unwrap().done().await.unwrap();
    assert_eq!(supervisor.snapshot().killed, 0);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn garbage_gets_the_worker_killed_and_the_request_failed() {
    let supervisor = ready("").await;
    let failed = supervisor.submit(ask(Ask::Garbage)).unwrap().done().await;
    assert_eq!(failed.unwrap_err(), died());
    echo(&supervisor).await;
    assert_eq!(supervisor.snapshot().killed, 1);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_request_that_the_engine_forgets_fails() {
    let supervisor = ready("").await;
    let failed = supervisor.submit(ask(Ask::Forget)).unwrap().done().await;
    assert!(matches!(failed, Err(EngineError::Internal { .. })));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_speculation_makes_room() {
    let mut spec = spec("");
    spec.queue_bound = 2;
    let supervisor = Supervisor::<Test>::start(spec);
    let mut busy = supervisor.submit(ask(Ask::Sleep)).unwrap();
    assert!(matches!(busy.next().await, Some(Response::Part { .. })));
    let mut speculative = ask(Ask::Echo);
    speculative.priority = Priority::Speculative;
    let speculative = supervisor.submit(speculative).unwrap();
    let waiting = supervisor.submit(ask(Ask::Echo)).unwrap();
    let urgent = supervisor.submit(ask(Ask::Echo)).unwrap();
    assert_eq!(
        speculative.done().await.unwrap_err(),
        EngineError::Overloaded
    );
    let refused = supervisor.submit(ask(Ask::Echo));
    assert_eq!(refused.unwrap_err(), EngineError::Overloaded);
    assert_eq!(supervisor.snapshot().overloaded, 2);
    drop(busy);
    waiting.done().await.unwrap();
    urgent.done().await.unwrap();
    supervisor.shutdown().await;
}

#[tokio::test]
async fn cancelling_frees_the_worker_and_removes_what_waits() {
    let supervisor = ready("").await;
    let first = echo(&supervisor).await;
    let mut sleeping = supervisor.submit(ask(Ask::Sleep)).unwrap();
    assert!(matches!(sleeping.next().await, Some(Response::Part { .. })));
    let doomed = supervisor.submit(ask(Ask::Abort)).unwrap();
    let echoed = supervisor.submit(ask(Ask::Echo)).unwrap();
    drop(doomed);
    drop(sleeping);
    assert_eq!(echoed.done().await.unwrap().0, first);
    let snapshot = supervisor.snapshot();
    assert_eq!((snapshot.cancelled, snapshot.deaths), (2, 0));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_request_that_waits_too_long_times_out_without_reaching_the_worker() {
    let supervisor = ready("").await;
    let mut busy = supervisor.submit(ask(Ask::Sleep)).unwrap();
    assert!(matches!(busy.next().await, Some(Response::Part { .. })));
    let mut late = ask(Ask::Abort);
    late.limits.wait = Duration::from_millis(50);
    let late = supervisor.submit(late).unwrap();
    assert_eq!(late.done().await.unwrap_err(), EngineError::TimedOut);
    drop(busy);
    echo(&supervisor).await;
    assert_eq!(supervisor.snapshot().deaths, 0);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn answers_that_nobody_reads_are_given_up_and_others_are_served() {
    let supervisor = ready("").await;
    let count = u32::try_from(UNREAD_RESPONSES).unwrap() * 2;
    let mut unread = supervisor.submit(ask(Ask::Parts { count })).unwrap();
    echo(&supervisor).await;
    let mut parts = 0;
    let end = loop {
        match unread.next().await {
            Some(Response::Part { .. }) => parts += 1,
            end => break end,
        }
    };
    assert_eq!(parts, UNREAD_RESPONSES - 1);
    assert_eq!(end, Some(Response::Failed(EngineError::Overloaded)));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn two_calls_at_once_are_served_in_turns() {
    let supervisor = ready("").await;
    let of_call = |number: u8| {
        let mut request = ask(Ask::Work { steps: 1 });
        request.call = Some(CallId::from_random([number; 16]));
        supervisor.submit(request).unwrap()
    };
    let mut busy = supervisor.submit(ask(Ask::Sleep)).unwrap();
    assert!(matches!(busy.next().await, Some(Response::Part { .. })));
    let first: Vec<_> = (0..3).map(|_| of_call(1)).collect();
    let other = of_call(2);
    drop(busy);
    other.done().await.unwrap();
    // Only one of the first call's three went before it.
    assert!(supervisor.snapshot().completed <= 2);
    for request in first {
        request.done().await.unwrap();
    }
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_missing_model_is_reported_and_requests_refused_with_it() {
    let supervisor = Supervisor::<Test>::start(spec("missing"));
    let missing = EngineError::ModelMissing {
        detail: "fetch it".into(),
    };
    let waiting = supervisor.submit(ask(Ask::Echo)).unwrap();
    assert_eq!(supervisor.ready().await.unwrap_err(), missing);
    assert_eq!(waiting.done().await.unwrap_err(), missing);
    assert_eq!(supervisor.submit(ask(Ask::Echo)).unwrap_err(), missing);
    let state = supervisor.state().borrow().clone();
    assert_eq!(state, WorkerState::Failed { reason: missing });
    supervisor.shutdown().await;
    assert_eq!(*supervisor.state().borrow(), WorkerState::Stopped);
}

#[tokio::test]
async fn a_missing_executable_is_reported() {
    let supervisor = Supervisor::<Test>::start(WorkerSpec::new("/nonexistent/offhook-test"));
    let failed = supervisor.ready().await;
    assert!(
        matches!(failed, Err(EngineError::ExecutableUnusable { .. })),
        "{failed:?}"
    );
    supervisor.shutdown().await;
}

#[tokio::test]
async fn an_executable_is_found_where_it_was_configured_or_beside_our_own() {
    let own = std::env::current_exe().unwrap();
    let name = own.file_name().unwrap().to_str().unwrap();
    assert_eq!(find_executable(name, None).unwrap(), own);
    assert_eq!(find_executable(name, own.parent()).unwrap(), own);
    let missing = find_executable("offhook-nothing", own.parent()).unwrap_err();
    assert!(
        missing.to_string().contains("offhook-nothing is not in"),
        "{missing}"
    );
}

#[tokio::test]
async fn a_worker_that_dies_on_every_start_is_given_up_for_a_while() {
    let supervisor = Supervisor::<Test>::start(spec("crash"));
    let crash_loop = EngineError::CrashLoop {
        engine: "test".into(),
    };
    assert_eq!(supervisor.ready().await.unwrap_err(), crash_loop);
    assert_eq!(supervisor.snapshot().starts, 5);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_worker_that_dies_once_while_it_starts_is_started_again() {
    let file = std::env::temp_dir().join(format!("offhook-dies-once-{}", std::process::id()));
    std::fs::write(&file, b"").unwrap();
    let supervisor = Supervisor::<Test>::start(spec(file.to_str().unwrap()));
    let waiting = supervisor.submit(ask(Ask::Echo)).unwrap();
    waiting.done().await.unwrap();
    assert_eq!(supervisor.snapshot().starts, 2);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_worker_that_never_says_hello_is_killed() {
    let mut spec = spec("mute");
    spec.start_timeout = Duration::from_millis(200);
    let supervisor = Supervisor::<Test>::start(spec);
    until(&supervisor, |snapshot| snapshot.killed >= 2).await;
    assert!(!supervisor.state().borrow().is_ready());
    supervisor.shutdown().await;
}

#[tokio::test]
async fn shutdown_fails_what_is_under_way_and_leaves_no_process() {
    let supervisor = ready("").await;
    let worker = echo(&supervisor).await;
    let mut sleeping = supervisor.submit(ask(Ask::Sleep)).unwrap();
    assert!(matches!(sleeping.next().await, Some(Response::Part { .. })));
    supervisor.shutdown().await;
    assert_eq!(
        sleeping.next().await,
        Some(Response::Failed(EngineError::ShutDown))
    );
    assert!(!runs(worker));
    assert_eq!(
        supervisor.submit(ask(Ask::Echo)).unwrap_err(),
        EngineError::ShutDown
    );
}

#[tokio::test]
async fn dropping_the_last_handle_stops_even_a_hung_worker() {
    let supervisor = ready("").await;
    let worker = echo(&supervisor).await;
    let hung = supervisor.submit(ask(Ask::Hang)).unwrap();
    until(&supervisor, |snapshot| snapshot.in_flight == 1).await;
    drop(supervisor);
    let end = hung.done().await;
    assert_eq!(end.unwrap_err(), EngineError::ShutDown);
    while runs(worker) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn events_reach_the_call_until_it_cancels() {
    let supervisor = ready("").await;
    let (events, mut received) = mpsc::channel(4);
    let translate = |response: Response<u32>| match response {
        Response::Part { body, .. } => Some(EngineEvent::ReplyText {
            generation: crate::ids::Generation::default(),
            text: body.to_string(),
        }),
        Response::Done { .. } | Response::Failed(_) => None,
    };
    let responses = supervisor.submit(ask(Ask::Parts { count: 20 })).unwrap();
    let handle = forward(responses, events.clone(), translate);
    for number in 0..20 {
        let event = received.recv().await.unwrap();
        assert!(matches!(event, EngineEvent::ReplyText { text, .. } if text == number.to_string()));
    }
    // Behind its end, so that dropping the handle cancels nothing any more.
    echo(&supervisor).await;
    drop(handle);

    let handle = forward(
        supervisor.submit(ask(Ask::Sleep)).unwrap(),
        events.clone(),
        translate,
    );
    assert!(received.recv().await.is_some());
    handle.cancel();
    echo(&supervisor).await;

    // A call that is gone stops its requests too.
    let responses = supervisor.submit(ask(Ask::Sleep)).unwrap();
    let handle = forward(responses, events, translate);
    assert!(received.recv().await.is_some());
    drop(received);
    echo(&supervisor).await;
    drop(handle);
    assert_eq!(supervisor.snapshot().cancelled, 2);
    supervisor.shutdown().await;
}

/// Not a test: a server that is killed, when it is asked for. Prints its worker's pid.
#[test]
fn server_process() {
    use std::io::Write;
    let Ok(ask_for) = std::env::var("OFFHOOK_TEST_SERVER") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let supervisor = ready("").await;
        let worker = echo(&supervisor).await;
        // A busy worker does not look at its stdin.
        let body = if ask_for == "hang" {
            Ask::Hang
        } else {
            Ask::Sleep
        };
        let mut busy = supervisor.submit(ask(body)).unwrap();
        until(&supervisor, |snapshot| snapshot.in_flight == 1).await;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "\nworker {worker}").unwrap();
        stdout.flush().unwrap();
        while busy.next().await.is_some() {}
    });
}

#[test]
fn no_worker_survives_a_server_that_is_killed() {
    use std::io::{BufRead, BufReader};
    for behaviour in ["hang", "sleep"] {
        let name = format!(
            "{}::server_process",
            module_path!().split_once("::").unwrap().1
        );
        let mut server = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name.as_str(), "--nocapture"])
            .env("OFFHOOK_TEST_SERVER", behaviour)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let worker = lines
            .map(|line| line.unwrap())
            .find_map(|line| {
                line.strip_prefix("worker ")
                    .and_then(|pid| pid.parse::<u32>().ok())
            })
            .unwrap();
        assert!(runs(worker));
        server.kill().unwrap();
        server.wait().unwrap();
        while runs(worker) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
