use std::time::{Duration, Instant};

use super::*;
use crate::audio::FRAME_SAMPLES;
use crate::audio::twofold::Fitter;
use crate::rtp::simulation::{Network, Path as NetworkPath, session, speech};

fn frame(value: i16) -> Frame {
    let mut frame = Frame::SILENCE;
    frame.samples_mut().fill(value);
    frame
}

#[test]
fn lost_ticks_are_silence_so_that_both_sides_stay_aligned_and_an_unfinished_file_plays() {
    let path = std::env::temp_dir().join(format!("offhook-recording-{}.wav", std::process::id()));
    let recorder = Recorder::start().expect("thread");
    let call = CallId::from_random([7; 16]);
    recorder.open(call, &path).expect("file");
    for index in (0..100).filter(|index| *index != 30) {
        let value = i16::try_from(index).expect("small");
        recorder.frame(call, index, frame(value), frame(-value));
    }
    // Opening another waits for everything before it; the first file was never finished.
    let other = CallId::from_random([8; 16]);
    let other_path = path.with_extension("2.wav");
    recorder.open(other, &other_path).expect("file");
    let reader = hound::WavReader::open(&path).expect("plays");
    assert_eq!(reader.spec().channels, 2);
    let samples: Vec<i16> = reader.into_samples().map(|s| s.expect("sample")).collect();
    assert_eq!(samples.len(), 100 * 160 * 2);
    let at = |index: usize| (samples[index * 320], samples[index * 320 + 1]);
    assert_eq!(at(29), (29, -29));
    assert_eq!(at(30), (0, 0));
    assert_eq!(at(31), (31, -31));
    std::fs::remove_file(path).expect("remove");
    std::fs::remove_file(other_path).expect("remove");
}

#[tokio::test]
async fn what_is_said_while_it_is_paused_is_silence_in_its_place_and_the_file_is_hashed() {
    let path = std::env::temp_dir().join(format!("offhook-paused-{}.wav", std::process::id()));
    let recorder = Recorder::start().expect("thread");
    let call = CallId::from_random([9; 16]);
    recorder.open(call, &path).expect("file");
    let mut tape = Tape::new(recorder, call);
    tape.frame(0, &frame(1), &frame(-1));
    assert!(tape.pause(true) && !tape.pause(true));
    tape.frame(1, &frame(2), &frame(-2));
    assert!(tape.pause(false) && !tape.pause(false));
    tape.frame(2, &frame(3), &frame(-3));
    let hash = tape.finish().await.expect("finished");
    assert_eq!(hash, sha256(&path).expect("read"));
    let reader = hound::WavReader::open(&path).expect("plays");
    let samples: Vec<i16> = reader.into_samples().map(|s| s.expect("sample")).collect();
    let left: Vec<i16> = samples.iter().step_by(2 * FRAME_SAMPLES).copied().collect();
    assert_eq!(left, [1, 0, 3]);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes.push(0);
    std::fs::write(&path, bytes).expect("written");
    assert_ne!(hash, sha256(&path).expect("read"), "it is another file now");
    std::fs::remove_file(path).expect("remove");
}

/// 20 ms that the jitter buffer does not shorten, as it does with what is quiet.
fn loud() -> Frame {
    let samples = (0..FRAME_SAMPLES).map(|n| if n / 4 % 2 == 0 { 20_000 } else { -20_000 });
    Frame::padded(&samples.collect::<Vec<i16>>())
}

/// A click of 2 ms from an offset on, or as far before it as a frame's end asks for.
fn click(offset: usize) -> Frame {
    const LENGTH: usize = 16;
    let mut frame = Frame::SILENCE;
    let offset = offset.min(FRAME_SAMPLES - LENGTH);
    frame.samples_mut()[offset..][..LENGTH].fill(20_000);
    frame
}

/// How much later than the assistant's click the caller's sound is in each minute of a recording, ms.
fn delays(path: &Path, minutes: usize) -> Vec<f64> {
    let mut reader = hound::WavReader::open(path).expect("plays");
    let mut places = vec![[None; 2]; minutes];
    for (index, sample) in reader.samples::<i16>().enumerate() {
        let (at, side) = (index / 2, index % 2);
        // Clicks are in the middle of their minute.
        let minute = at / (60 * 8000);
        if sample.expect("sample").abs() > 15_000 && minute < minutes {
            places[minute][side].get_or_insert(at);
        }
    }
    let delay = |place: &[Option<usize>; 2]| {
        let [left, right] = place.map(|at| at.unwrap_or_else(|| panic!("{places:?}")) as f64);
        (left - right) / 8.0
    };
    places.iter().map(delay).collect()
}

/// The caller's clock is 100 ppm fast or slow: 360 ms in an hour. Both make a sound at the same moment
/// in the middle of every minute.
#[test]
fn an_hour_of_a_caller_with_another_clock_keeps_both_sides_aligned() {
    const MINUTES: usize = 60;
    for drift_ppm in [100.0, -100.0] {
        let path = std::env::temp_dir().join(format!("offhook-hour-{}.wav", std::process::id()));
        let recorder = Recorder::start().expect("thread");
        let call = CallId::from_random([3; 16]);
        recorder.open(call, &path).expect("file");
        let (mut caller, mut server) = (session(1, 20), session(2, 20));
        let mut network = Network::new(
            NetworkPath {
                jitter_ms: 15.0,
                ..NetworkPath::CLEAN
            },
            7,
        );
        let (start, mut fitter) = (Instant::now(), Fitter::default());
        let words = speech(300, 11);
        let step = Duration::from_secs_f64(0.02 * (1.0 - drift_ppm / 1e6));
        let (mut sent, mut next_click) = (0u32, Duration::from_secs(30));
        for index in 0..MINUTES as u64 * 3000 {
            let by = Duration::from_millis(20 * (index + 1));
            let mut spoken = Frame::SILENCE;
            while step * sent < by {
                let at = step * sent;
                let quiet = next_click.saturating_sub(at) < Duration::from_secs(1);
                let said = if at >= next_click {
                    next_click += Duration::from_secs(60);
                    let into = at.saturating_sub(by - Duration::from_millis(20));
                    spoken = click((into.as_secs_f64() * 8000.0) as usize);
                    loud()
                } else if quiet {
                    Frame::SILENCE
                } else {
                    let place = sent as usize % 300 * FRAME_SAMPLES;
                    Frame::padded(&words[place..place + FRAME_SAMPLES])
                };
                caller.send(Some(&said.into()), |datagram| network.send(at, datagram));
                sent += 1;
            }
            for (arrival, datagram) in network.arrived(by) {
                server.receive(start + arrival, &datagram).expect("RTP");
            }
            let heard = fitter.narrow(&server.pull(start + by).frame);
            recorder.frame(call, index, heard, spoken);
            if index % 10_000 == 0 {
                // It waits for everything before it.
                let other = path.with_extension("other.wav");
                recorder
                    .open(CallId::from_random([4; 16]), &other)
                    .expect("file");
            }
        }
        let other = path.with_extension("other.wav");
        recorder
            .open(CallId::from_random([5; 16]), &other)
            .expect("file");
        assert_eq!(recorder.lost(), 0);
        let delays = delays(&path, MINUTES);
        let (least, most) = delays
            .iter()
            .fold((f64::MAX, f64::MIN), |(least, most), delay| {
                (least.min(*delay), most.max(*delay))
            });
        assert!(
            most - least <= 20.0 && least > 0.0 && most < 120.0,
            "{drift_ppm} ppm: {delays:?}"
        );
        for file in [path, other] {
            std::fs::remove_file(file).expect("remove");
        }
    }
}
