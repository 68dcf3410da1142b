use std::path::PathBuf;

use super::*;
use crate::audio::wav;

/// 3 s of 440 and 1500 Hz after 5 s of silence, as the model's authors' own code sees them.
#[test]
fn features_are_those_of_the_reference() {
    let samples: Vec<i16> = (0..48_000)
        .map(|n| {
            let at = std::f64::consts::TAU * f64::from(n) / 16_000.0;
            (8_000.0 * (440.0 * at).sin() + 3_000.0 * (1_500.0 * at).sin()).round() as i16
        })
        .collect();
    let features = Features::new().of(&samples);
    assert_eq!(features.len(), BANDS * FRAMES);
    let reference = [
        (0, 0, -0.2438),
        (10, 600, 1.6667),
        (11, 600, 1.7562),
        (30, 600, -0.0481),
        (40, 700, 0.2413),
        (79, 799, -0.1049),
        (12, 499, 0.6644),
        (12, 500, 1.5579),
        (12, 501, 1.6134),
    ];
    for (band, frame, expected) in reference {
        let value = features[band * FRAMES + frame];
        assert!(
            (value - expected).abs() < 1e-3,
            "{band}, {frame}: {value} instead of {expected}"
        );
    }
    let mean = features.iter().sum::<f32>() / features.len() as f32;
    assert!((mean + 0.1579).abs() < 1e-3, "{mean}");
}

#[test]
fn only_the_last_8_s_count_and_silence_is_no_trouble() {
    let features = Features::new();
    let tone: Vec<i16> = (0..SAMPLES).map(|n| ((n % 50) * 100) as i16).collect();
    let longer = [&[7_000; 4_000][..], &tone].concat();
    assert_eq!(features.of(&tone), features.of(&longer));
    assert!(features.of(&[]).iter().all(|value| value.is_finite()));
}

/// A judge whose thread does not run, and what it would receive.
fn idle() -> (TurnJudge, Receiver<Job>) {
    let (jobs, waiting) = sync_channel(MOST_WAITING);
    let counters = Arc::default();
    (TurnJudge { jobs, counters }, waiting)
}

#[test]
fn where_too_many_wait_a_silence_is_left_out_and_counted() {
    let (judge, waiting) = idle();
    let stream = TurnStream::new(Some(judge.clone()));
    let audio: Arc<[i16]> = Arc::from([0; 160]);
    for end in 0..MOST_WAITING as u64 + 2 {
        stream.judge(Arc::clone(&audio), SampleRate::TELEPHONE, end);
    }
    assert_eq!(judge.snapshot().left_out, 2);
    assert_eq!(waiting.try_iter().count(), MOST_WAITING);
}

#[tokio::test]
async fn without_a_model_nothing_is_said() {
    let mut stream = TurnStream::new(None);
    stream.judge(Arc::from([0; 160]), SampleRate::TELEPHONE, 1);
    tokio::select! {
        biased;
        judgement = stream.next() => panic!("{judgement:?}"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
#[ignore = "needs the models: OFFHOOK_MODELS=DIR cargo test -- --ignored"]
async fn a_sentence_that_ends_is_told_from_one_that_is_cut() {
    let models = PathBuf::from(std::env::var_os("OFFHOOK_MODELS").expect("OFFHOOK_MODELS"));
    let model = models.join("smart-turn-v3.2-cpu.onnx");
    let runtime = std::fs::read_dir(&models)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("libonnxruntime.so"))
        .expect("the runtime");
    let judge = TurnJudge::open(&model, &runtime).expect("opens");
    let mut stream = TurnStream::new(Some(judge));
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/calls/audio/help_me.wav");
    let clip = wav::read(std::fs::File::open(file).expect("there")).expect("speech");
    let loud = |sample: &i16| sample.unsigned_abs() > 650;
    let begin = clip.samples.iter().position(loud).expect("speech");
    let last = clip.samples.iter().rposition(loud).expect("speech");
    let cut = begin + (last - begin) * 6 / 10;
    for (number, end) in [(1, last), (2, cut)] {
        // With 200 ms of silence, as in a call.
        let mut samples = clip.samples[..end].to_vec();
        samples.extend([0; 1_600]);
        stream.judge(samples.into(), clip.rate, number);
    }
    let (finished, cut) = (stream.next().await, stream.next().await);
    assert_eq!((finished.end, cut.end), (1, 2));
    assert!(finished.probability > 0.5, "{finished:?}");
    assert!(cut.probability < 0.3, "{cut:?}");
}
