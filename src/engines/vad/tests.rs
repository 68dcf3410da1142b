use std::path::PathBuf;

use super::*;

fn stream(results: mpsc::Sender<SpeechProbability>) -> Arc<Stream> {
    Arc::new(Stream {
        memory: Mutex::default(),
        results,
    })
}

/// A detector whose thread does not run, and what it would receive.
fn idle() -> (Vad, Receiver<Window>) {
    let (windows, receiver) = sync_channel(MAX_WAITING);
    (
        Vad {
            windows,
            counters: Arc::default(),
        },
        receiver,
    )
}

#[test]
fn frames_of_20_ms_become_windows_of_32_ms_with_the_right_positions() {
    let (vad, windows) = idle();
    let mut stream = vad.stream();
    for frame in 0..8i16 {
        let samples: Vec<i16> = (0..160).map(|index| frame * 160 + index).collect();
        stream.push(&samples);
    }
    for number in 1..=5u64 {
        let window = windows.try_recv().unwrap();
        assert_eq!(window.end, number * 256);
        for (index, sample) in window.samples.iter().enumerate() {
            let position = (number - 1) * 256 + index as u64;
            assert_eq!(sample * 32_768.0, position as f32);
        }
    }
    assert!(windows.try_recv().is_err());
}

#[test]
fn wideband_windows_have_the_same_length_and_positions_and_a_change_begins_anew() {
    let (vad, windows) = idle();
    let mut stream = vad.stream();
    stream.push(&[1; 160]);
    for _ in 0..8 {
        stream.push_wide(&[2; 320]);
    }
    let first = windows.try_recv().unwrap();
    assert_eq!((first.rate, first.samples.len()), (Rate::Wide, 512));
    assert_eq!(first.end, 160 + 256, "what was begun at 8 kHz is left out");
    assert!(first.samples.iter().all(|sample| *sample == 2.0 / 32_768.0));
    assert_eq!(windows.try_iter().count(), 4);
    stream.push(&[3; 256]);
    let narrow = windows.try_recv().unwrap();
    assert_eq!((narrow.rate, narrow.end), (Rate::Narrow, 9 * 160 + 256));
}

#[test]
fn windows_of_both_rates_are_not_in_one_batch() {
    let (results, _unread) = mpsc::channel(1);
    let window = |rate: Rate, end| Window {
        stream: stream(results.clone()),
        end,
        rate,
        samples: vec![0.0; rate.window()],
    };
    let (mut batch, mut later) = (Vec::new(), VecDeque::new());
    for (rate, end) in [(Rate::Wide, 1), (Rate::Narrow, 2), (Rate::Wide, 3)] {
        place(window(rate, end), &mut batch, &mut later);
    }
    let ends = |windows: &[Window]| windows.iter().map(|window| window.end).collect::<Vec<_>>();
    assert_eq!(
        (ends(&batch), ends(later.make_contiguous())),
        (vec![1, 3], vec![2])
    );
}

#[test]
fn when_the_thread_is_behind_windows_are_dropped_and_counted_and_positions_stay_right() {
    let (vad, windows) = idle();
    let mut stream = vad.stream();
    let length = WINDOW_SAMPLES * (MAX_WAITING + 3);
    stream.push(&vec![0; length]);
    assert_eq!(vad.snapshot().dropped, 3);
    assert_eq!(windows.try_iter().count(), MAX_WAITING);
    stream.push(&[0; WINDOW_SAMPLES]);
    assert_eq!(
        windows.try_recv().unwrap().end,
        (length + WINDOW_SAMPLES) as u64
    );
}

#[test]
fn a_batch_holds_one_window_of_a_stream_and_later_ones_keep_their_order() {
    let (results, _unread) = mpsc::channel(1);
    let (first, second) = (stream(results.clone()), stream(results));
    let window = |stream: &Arc<Stream>, end| Window {
        stream: Arc::clone(stream),
        end,
        rate: Rate::Narrow,
        samples: vec![0.0; WINDOW_SAMPLES],
    };
    let (mut batch, mut later) = (Vec::new(), VecDeque::new());
    for (stream, end) in [
        (&first, 1),
        (&first, 2),
        (&second, 3),
        (&first, 4),
        (&second, 5),
    ] {
        place(window(stream, end), &mut batch, &mut later);
    }
    assert_eq!(
        batch.iter().map(|window| window.end).collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(
        later.iter().map(|window| window.end).collect::<Vec<_>>(),
        [2, 4, 5]
    );

    let mut next = Vec::new();
    for window in std::mem::take(&mut later) {
        place(window, &mut next, &mut later);
    }
    assert_eq!(
        next.iter().map(|window| window.end).collect::<Vec<_>>(),
        [2, 5]
    );
    assert_eq!(
        later.iter().map(|window| window.end).collect::<Vec<_>>(),
        [4]
    );
}

#[test]
fn a_missing_model_and_a_file_that_is_none_are_told_apart() {
    let missing = Path::new("/nonexistent/silero.onnx");
    let own = std::env::current_exe().unwrap();
    let error = Vad::open(missing, &own).err().unwrap();
    assert!(
        matches!(&error, EngineError::ModelMissing { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("/nonexistent/silero.onnx"));
    let error = Vad::open(Path::new("/dev/null/x"), &own).err().unwrap();
    assert!(matches!(error, EngineError::ModelMissing { .. }));
}

/// The folder of the models; these tests fail without it, and run where it is given.
fn open() -> Vad {
    let models = std::env::var("OFFHOOK_MODELS").expect("OFFHOOK_MODELS names the models' folder");
    let models = PathBuf::from(models);
    let runtime = std::fs::read_dir(&models)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("libonnxruntime.so"))
        .unwrap();
    Vad::open(&models.join("silero_vad.onnx"), &runtime).unwrap()
}

/// Something like "a-u-a-u" in a man's voice: pulses through two moving formants.
fn voice(samples: usize) -> Vec<i16> {
    let mut resonators = [[0.0f64; 2]; 3];
    (0..samples)
        .map(|index| {
            let time = index as f64 / 8000.0;
            let sweep = 0.5 + 0.5 * (time * 2.0 * std::f64::consts::TAU).sin();
            let pitch = 110.0 + 20.0 * (time * 1.3 * std::f64::consts::TAU).sin();
            let phase = (time * pitch).fract();
            let pulse = if phase < pitch / 8000.0 { 1.0 } else { 0.0 };
            let formants = [300.0 + 450.0 * sweep, 900.0 + 300.0 * sweep, 2400.0];
            let mut sound = 0.0;
            for (state, formant) in resonators.iter_mut().zip(formants) {
                let radius = (-std::f64::consts::PI * 90.0 / 8000.0).exp();
                let turn = (std::f64::consts::TAU * formant / 8000.0).cos();
                let value = pulse + 2.0 * radius * turn * state[0] - radius * radius * state[1];
                *state = [value, state[0]];
                sound += value;
            }
            let syllable = (time * 4.0 * std::f64::consts::PI).sin().abs().sqrt();
            (sound * syllable * 2500.0) as i16
        })
        .collect()
}

fn noise(samples: usize) -> Vec<i16> {
    let mut state = 1u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i16 / 64
    })
    .take(samples)
    .collect()
}

async fn probabilities(stream: &mut VadStream, samples: &[i16]) -> Vec<f32> {
    let mut probabilities = Vec::new();
    for window in samples.chunks_exact(WINDOW_SAMPLES) {
        stream.push(window);
        probabilities.push(stream.next().await.probability);
    }
    probabilities
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

#[tokio::test]
#[ignore = "needs models: set OFFHOOK_MODELS"]
async fn a_voice_is_speech_and_silence_and_faint_noise_are_not() {
    let vad = open();
    let mut stream = vad.stream();
    let silence = probabilities(&mut stream, &[0; 8192]).await;
    let speech = probabilities(&mut stream, &voice(16_384)).await;
    let after = probabilities(&mut stream, &[0; 16_384]).await;
    let faint = probabilities(&mut vad.stream(), &noise(16_384)).await;
    assert!(mean(&silence) < 0.1, "{silence:?}");
    assert!(mean(&speech[4..]) > 0.5, "{speech:?}");
    assert!(mean(&after[12..]) < 0.1, "{after:?}");
    assert!(mean(&faint) < 0.2, "{faint:?}");
}

#[tokio::test]
#[ignore = "needs models: set OFFHOOK_MODELS"]
async fn calls_in_one_batch_get_what_they_would_get_alone() {
    let vad = open();
    let audio = [
        voice(8192),
        vec![0; 8192],
        noise(8192),
        voice(16_384).split_off(8192),
    ];
    let mut alone = Vec::new();
    for samples in &audio {
        alone.push(probabilities(&mut vad.stream(), samples).await);
    }
    let before = vad.snapshot();
    let mut streams: Vec<_> = (0..16).map(|_| vad.stream()).collect();
    for start in (0..8192).step_by(160) {
        for (index, stream) in streams.iter_mut().enumerate() {
            let samples = &audio[index % 4];
            stream.push(&samples[start..(start + 160).min(8192)]);
        }
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        for (number, expected) in alone[index % 4].iter().enumerate() {
            let result = stream.next().await;
            assert_eq!(result.end, (number as u64 + 1) * WINDOW_SAMPLES as u64);
            let difference = (result.probability - expected).abs();
            assert!(
                difference < 1e-3,
                "call {index}, window {number}: off by {difference}"
            );
        }
    }
    let after = vad.snapshot();
    let (windows, runs) = (after.windows - before.windows, after.runs - before.runs);
    assert_eq!(windows, 16 * 32);
    assert!(runs < windows / 2, "{runs} runs for {windows} windows");
    assert_eq!((after.dropped, after.failed), (0, 0));
}

/// Prints, for people: `cargo test --release vad -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement; needs models: set OFFHOOK_MODELS"]
#[expect(clippy::print_stderr, reason = "it measures, for people")]
async fn time_for_one_run() {
    let models = PathBuf::from(std::env::var("OFFHOOK_MODELS").unwrap());
    let mut detector = Detector::load(
        &models.join("silero_vad.onnx"),
        &models.join("libonnxruntime.so.1.31.1"),
    )
    .unwrap();
    let samples: [f32; WINDOW_SAMPLES] = std::array::from_fn(|index| index as f32 / 512.0);
    for count in [1, 4, 16, 64] {
        let (results, _unread) = mpsc::channel(1);
        let batch: Vec<_> = (0..count)
            .map(|_| Window {
                stream: stream(results.clone()),
                end: 0,
                rate: Rate::Narrow,
                samples: samples.to_vec(),
            })
            .collect();
        let mut times: Vec<_> = (0..200)
            .map(|_| {
                let start = std::time::Instant::now();
                detector.judge(&batch).unwrap();
                start.elapsed()
            })
            .collect();
        times.sort();
        eprintln!(
            "batch {count}: median {:?}, p99 {:?}",
            times[100], times[198]
        );
        assert!(!times[0].is_zero());
    }
}
