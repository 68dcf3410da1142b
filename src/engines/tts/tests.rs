use std::path::Path;
use std::time::Instant;

use super::*;
use crate::audio::level;
use crate::engines::phrases::PhraseBook;
use crate::engines::supervisor::find_executable;

#[test]
fn what_has_no_word_or_too_many_is_refused_before_it_reaches_the_worker() {
    for text in ["", "  ", "...", "?!", "\u{1f600}"] {
        assert!(
            matches!(check_text(text), Err(EngineError::BadInput { .. })),
            "{text:?}"
        );
    }
    assert!(check_text(&"a".repeat(MAX_TEXT_CHARS + 1)).is_err());
    assert!(check_text(&"a".repeat(MAX_TEXT_CHARS)).is_ok());
    for text in ["5", "No.", "Straße", "\u{4f60}\u{597d}"] {
        assert!(check_text(text).is_ok(), "{text:?}");
    }
}

#[test]
fn the_worker_is_told_where_everything_is() {
    let mut config = TtsConfig::new("/bin/offhook-tts", "/m/voice.onnx", "/m/libonnx.so");
    config.espeak_data = Some("/usr/share/offhook".into());
    config.description = Some("/m/other.json".into());
    let spec = config.spec();
    let args: Vec<_> = spec.args.iter().map(|arg| arg.to_string_lossy()).collect();
    assert_eq!(
        args.join(" "),
        "--model /m/voice.onnx --onnxruntime /m/libonnx.so --threads 2 --parallel 1 \
         --description /m/other.json"
    );
    assert_eq!(
        spec.env,
        [(ESPEAK_DATA_VARIABLE.into(), "/usr/share/offhook".into())]
    );
}

/// The real worker with the real voice. `OFFHOOK_MODELS` names the models' folder,
/// `OFFHOOK_WORKERS` that of the worker, where it is not beside this executable.
async fn worker(threads: u16) -> Tts {
    let models = std::env::var("OFFHOOK_MODELS").expect("OFFHOOK_MODELS names the models' folder");
    let models = PathBuf::from(models);
    let runtime = std::fs::read_dir(&models)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("libonnxruntime.so"))
        .unwrap();
    let folder = std::env::var_os("OFFHOOK_WORKERS");
    let executable = find_executable("offhook-tts", folder.as_deref().map(Path::new)).unwrap();
    let mut config = TtsConfig::new(executable, models.join("en_US-joe-medium.onnx"), runtime);
    // The tests share the machine with other work.
    config.scheduling = Scheduling::Normal;
    config.threads = threads;
    let tts = Tts::start(&config);
    tts.ready().await.unwrap();
    tts
}

fn request(clause: u32, text: &str) -> SpeakRequest {
    SpeakRequest {
        call: CallId::from_random([1; 16]),
        generation: Generation::from_raw(7),
        clause,
        text: text.to_owned(),
        priority: Priority::Waiting,
        speed: 1.0,
        rate: SampleRate::TELEPHONE,
    }
}

#[tokio::test]
#[ignore = "needs models and the built worker: set OFFHOOK_MODELS"]
async fn a_clause_comes_back_audible_at_once_levelled_and_of_plausible_length() {
    let tts = worker(2).await;
    let (events, mut received) = mpsc::channel(8);
    let _speaking = tts
        .speak(request(3, "We are open from nine to five."), events)
        .unwrap();
    let event = received.recv().await.unwrap();
    let EngineEvent::Speech {
        generation,
        clause: 3,
        result,
    } = event
    else {
        unreachable!("{event:?}")
    };
    assert_eq!(generation.get(), 7);
    let samples = result.unwrap().samples;
    let seconds = samples.len() as f32 / 8000.0;
    assert!((1.0..3.5).contains(&seconds), "{seconds} s");
    assert!(
        level::is_audible(&samples[..480]),
        "the first 60 ms are silent"
    );
    let level = level::rms_dbfs(&samples);
    assert!((-26.0..-18.0).contains(&level), "{level} dBFS");
    assert!(samples.iter().all(|sample| sample.unsigned_abs() < 29_300));
    tts.shutdown().await;
}

#[tokio::test]
#[ignore = "needs models and the built worker: set OFFHOOK_MODELS"]
async fn odd_texts_neither_kill_nor_hang_the_worker() {
    let tts = worker(2).await;
    let long = "word ".repeat(190);
    let texts = [
        "No.",
        "5",
        "3.5%",
        "Dr. Smith at 4 p.m.",
        "a\0b\r\nc",
        "((((",
        "[[hello]]",
        "<break/>x",
        "\u{4f60}\u{597d}",
        "\u{1f600} yes",
        "AT&T",
        "www.example.com/a?b=c",
        "x",
        "-5",
        "\u{301}e",
        long.as_str(),
    ];
    for text in texts {
        let spoken = tts.synthesise(text).await;
        assert!(
            matches!(&spoken, Ok(samples) if !samples.is_empty())
                || matches!(spoken, Err(EngineError::BadInput { .. })),
            "{text:?}: {spoken:?}"
        );
    }
    assert_eq!(tts.snapshot().deaths, 0);
    tts.shutdown().await;
}

#[tokio::test]
#[ignore = "needs models and the built worker: set OFFHOOK_MODELS"]
async fn phrases_outlive_a_killed_worker_and_the_next_clause_is_spoken() {
    let tts = worker(2).await;
    let folder = std::env::temp_dir().join(format!("offhook-tts-{}", std::process::id()));
    let book = PhraseBook::new(&folder, "joe");
    let phrase = "One moment, please.".to_owned();
    assert!(
        book.prepare(&tts, std::slice::from_ref(&phrase))
            .await
            .is_empty()
    );
    std::fs::remove_dir_all(&folder).unwrap();

    let pid = i32::try_from(tts.snapshot().pid.unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let (events, mut received) = mpsc::channel(8);
    let long = "This sentence is long enough to be interrupted by a kill. ".repeat(8);
    let _speaking = tts.speak(request(0, &long), events.clone()).unwrap();
    while tts.snapshot().in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let event = received.recv().await.unwrap();
    assert!(
        matches!(
            &event,
            EngineEvent::Speech {
                result: Err(EngineError::WorkerDied { .. }),
                ..
            }
        ),
        "{event:?}"
    );
    assert!(book.get(&phrase).is_some());
    let _again = tts.speak(request(1, "Back again."), events).unwrap();
    let event = received.recv().await.unwrap();
    assert!(
        matches!(
            event,
            EngineEvent::Speech {
                clause: 1,
                result: Ok(_),
                ..
            }
        ),
        "{event:?}"
    );
    tts.shutdown().await;
}

/// Processor time of a process so far, in ms; the kernel counts it in hundredths of a second.
fn processor_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    [11, 12]
        .iter()
        .map(|field| fields[*field].parse::<u64>().unwrap() * 10)
        .sum()
}

/// Prints, for people: `cargo test --release tts -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement; needs models and the built worker"]
#[expect(clippy::print_stderr, reason = "it measures, for people")]
async fn time_for_one_clause() {
    let clauses = [
        "Sure.",
        "Yes, we are open on Sunday.",
        "We are open from nine in the morning until five in the afternoon.",
        "The order was shipped on Monday, and it should arrive at your door by the end of \
         this week.",
    ];
    for threads in [1, 2] {
        let tts = worker(threads).await;
        let worker = tts.snapshot().pid.unwrap();
        eprintln!(
            "{threads} threads, start: {} ms of processor time",
            processor_ms(worker)
        );
        for clause in clauses {
            let before = processor_ms(worker);
            let mut times = Vec::new();
            let mut length = 0;
            for _ in 0..9 {
                let start = Instant::now();
                length = tts.synthesise(clause).await.unwrap().len();
                times.push(start.elapsed());
            }
            times.sort();
            let seconds = length as f32 / 8000.0;
            let processor = (processor_ms(worker) - before) / 9;
            let (best, median) = (times[0], times[4]);
            eprintln!(
                "{threads} threads, {seconds:.1} s: best {best:.1?}, median {median:.1?}, \
                 {processor} ms of processor time"
            );
            assert!(length > 0);
        }
        tts.shutdown().await;
    }
}
