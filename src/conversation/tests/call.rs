//! The world around a conversation. Its driver plays what it is told in 20 ms ticks, its
//! engines answer after a fixed time, and every output is checked against the invariants.

mod engines;
mod seen;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::super::*;
use crate::ids::Generation;
use crate::record::{EndedBy, EndedReason, Message, Role, TurnLedger};

/// Milliseconds of speech a letter.
pub(super) const MS_A_LETTER: u64 = 60;
const TICK_MS: u64 = 20;
const WINDOW_MS: u64 = 32;

pub(super) const HOLDING: &str = "One moment, please.";
pub(super) const MISSED: &str = "Sorry, I missed that. Could you say it again?";
pub(super) const APOLOGY: &str = "I'm sorry, something went wrong. Could you say that again?";
pub(super) const TROUBLE: &str =
    "I'm sorry, I am having technical trouble. Please call back later.";

/// Something audible of the caller's.
#[derive(Clone, Debug)]
pub(super) struct Sound {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) words: String,
    pub(super) probability: f32,
    pub(super) mean_logprob: f32,
    pub(super) no_speech_probability: f32,
    pub(super) language: Option<SpokenLanguage>,
}

/// What the caller heard of one clip, on the call's clock.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Heard {
    pub(super) text: String,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) first_sample: u32,
    pub(super) played: u32,
    pub(super) length: u32,
}

/// How an engine behaves.
#[derive(Clone, Debug)]
pub(super) struct Behaviour {
    /// Time to the answer, in ms.
    pub(super) delay: u64,
    /// How many of the next requests fail.
    pub(super) failures: u32,
    /// Failures can be tried again.
    pub(super) retryable: bool,
    /// It never answers.
    pub(super) hangs: bool,
}

impl Behaviour {
    fn new(delay: u64) -> Self {
        Self {
            delay,
            failures: 0,
            retryable: true,
            hangs: false,
        }
    }
}

struct Clip {
    id: ClipId,
    played: u32,
    length: u32,
    heard: usize,
}

pub(super) struct Call {
    pub(super) conversation: Conversation,
    start: Instant,
    pub(super) clock: u64,
    sounds: Vec<Sound>,
    pub(super) stt: Behaviour,
    pub(super) llm: Behaviour,
    pub(super) tts: Behaviour,
    /// The model breaks off after this many words, once.
    pub(super) breaks_off_after: Option<usize>,
    answers: VecDeque<String>,
    /// How likely the model takes what was said for a whole sentence; `None` where it cannot tell.
    pub(super) whole: Option<f32>,
    /// What the line sounds like where nobody speaks, dB relative to full scale.
    pub(super) noise_dbfs: f32,
    /// The detector stops working at this time.
    pub(super) detector_dies_at: u64,
    todo: BTreeMap<(u64, u64), Input>,
    order: u64,
    // The driver.
    texts: BTreeMap<ClipId, String>,
    lengths: BTreeMap<ClipId, u32>,
    queue: VecDeque<Clip>,
    fading: Option<(ClipId, u32, u32, u64)>,
    next_tick: u64,
    next_window: u64,
    // What was seen.
    pub(super) heard: Vec<Heard>,
    pub(super) outputs: Vec<(u64, Output)>,
    speculative: BTreeSet<Generation>,
    dropped: BTreeSet<Generation>,
    newest: Generation,
    pub(super) ended: Option<(u64, EndedReason, EndedBy)>,
}

pub(super) fn settings(json: &str) -> AssistantSettings {
    let settings: AssistantSettings = serde_json::from_str(json).unwrap();
    assert_eq!(settings.mistakes(), []);
    settings
}

/// A call with a greeting, on the air.
pub(super) fn call() -> Call {
    Call::new(&settings(
        r#"{"firstMessage": "Hello, this is Acme.", "firstMessageInterruptionsEnabled": true}"#,
    ))
}

/// A call where the caller speaks first.
pub(super) fn quiet_call() -> Call {
    Call::new(&settings("{}"))
}

pub(super) fn audio_ms(text: &str) -> u64 {
    text.chars().count() as u64 * MS_A_LETTER
}

impl Call {
    pub(super) fn new(settings: &AssistantSettings) -> Self {
        let phrases = settings.phrases();
        let length = |text: &str| u32::try_from(audio_ms(text) * SAMPLES_PER_MS).unwrap();
        let prepared = phrases.iter().map(|(kind, text)| {
            (
                *kind,
                ClipLength {
                    samples: length(text),
                    audible_from: 0,
                },
            )
        });
        let mut call = Self::unprepared(settings, prepared.collect());
        for (kind, text) in phrases {
            call.lengths.insert(ClipId::Phrase(kind), length(&text));
            call.texts.insert(ClipId::Phrase(kind), text);
        }
        call.handle(Input::MediaStarted);
        call
    }

    fn unprepared(settings: &AssistantSettings, prepared: PreparedPhrases) -> Self {
        Self {
            conversation: Conversation::new(settings, prepared),
            start: Instant::now(),
            clock: 0,
            sounds: Vec::new(),
            stt: Behaviour::new(150),
            llm: Behaviour::new(100),
            tts: Behaviour::new(60),
            breaks_off_after: None,
            whole: Some(0.9),
            answers: VecDeque::new(),
            noise_dbfs: -70.0,
            detector_dies_at: u64::MAX,
            todo: BTreeMap::new(),
            order: 0,
            texts: BTreeMap::new(),
            lengths: BTreeMap::new(),
            queue: VecDeque::new(),
            fading: None,
            next_tick: TICK_MS,
            next_window: WINDOW_MS,
            heard: Vec::new(),
            outputs: Vec::new(),
            speculative: BTreeSet::new(),
            dropped: BTreeSet::new(),
            newest: Generation::default(),
            ended: None,
        }
    }

    /// A call without prepared phrases: everything is synthesised when it is needed.
    pub(super) fn without_phrases(settings: &AssistantSettings) -> Self {
        let mut call = Self::unprepared(settings, PreparedPhrases::new());
        call.handle(Input::MediaStarted);
        call
    }

    // What the caller does.

    /// The caller says this from now on, in so many ms; time passes.
    pub(super) fn says(&mut self, words: &str, ms: u64) {
        self.will_say(0, words, ms);
        self.pass(ms);
    }

    /// The caller will say this, from `after` ms from now on.
    pub(super) fn will_say(&mut self, after: u64, words: &str, ms: u64) {
        self.sound(after, words, ms, (0.95, -0.2, 0.02));
    }

    /// Something that the detector takes for speech with such a probability.
    pub(super) fn noise(&mut self, after: u64, invented: &str, ms: u64, probability: f32) {
        self.sound(after, invented, ms, (probability, -0.9, 0.7));
    }

    pub(super) fn sound(&mut self, after: u64, words: &str, ms: u64, judged: (f32, f32, f32)) {
        let from = self.clock + after;
        self.sounds.push(Sound {
            from,
            to: from + ms,
            words: words.to_owned(),
            probability: judged.0,
            mean_logprob: judged.1,
            no_speech_probability: judged.2,
            language: None,
        });
    }

    /// The caller says this so that hardly anything can be made out; time passes.
    pub(super) fn mumbles(&mut self, words: &str, ms: u64) {
        self.sound(0, words, ms, (0.9, -1.15, 0.1));
        self.pass(ms);
    }

    /// The caller says something in such a language, from `after` ms from now on, and is heard as
    /// these words of the expected one.
    pub(super) fn is_heard_as(&mut self, after: u64, words: &str, ms: u64, said: SpokenLanguage) {
        self.sound(after, words, ms, (0.95, -0.8, 0.02));
        if let Some(sound) = self.sounds.last_mut() {
            sound.language = Some(said);
        }
    }

    pub(super) fn presses(&mut self, keys: &str) {
        for key in keys.chars() {
            self.handle(Input::Digit(key));
            self.pass(100);
        }
    }

    // What the model does.

    /// The next reply.
    pub(super) fn model_says(&mut self, text: &str) {
        self.answers.push_back(text.to_owned());
    }

    /// The next reply, before all others.
    pub(super) fn model_next(&mut self, text: &str) {
        self.answers.push_front(text.to_owned());
    }

    // Time.

    /// Lets time pass, unless the call ends before.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.clock + ms;
        loop {
            let deadline = self.conversation.deadline().map(|(at, _)| self.ms_of(at));
            let todo = self.todo.keys().next().map(|(at, _)| *at);
            let detector = self.next_window + 10;
            let next = [Some(self.next_tick), Some(detector), deadline, todo];
            let next = next.into_iter().flatten().min().unwrap().max(self.clock);
            if next > until {
                break;
            }
            self.clock = next;
            self.happen();
            assert!(self.outputs.len() < 200_000, "an endless conversation");
        }
        self.clock = until;
    }

    fn ms_of(&self, at: Instant) -> u64 {
        let ns = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(ns.div_ceil(1_000_000)).unwrap()
    }

    pub(super) fn later(&mut self, after: u64, input: Input) {
        self.order += 1;
        self.todo.insert((self.clock + after, self.order), input);
    }

    fn happen(&mut self) {
        if self
            .conversation
            .deadline()
            .is_some_and(|(at, _)| self.ms_of(at) <= self.clock)
        {
            self.handle(Input::Timeout);
        }
        while let Some((&(at, order), _)) = self.todo.first_key_value() {
            if at > self.clock {
                break;
            }
            let input = self.todo.remove(&(at, order)).unwrap();
            self.handle(input);
        }
        if self.clock >= self.next_tick {
            self.next_tick += TICK_MS;
            // The frame holds the sound of the 20 ms before it came.
            let middle = self.clock - TICK_MS / 2;
            let level_dbfs = if self.sound_at(middle).is_some() {
                -20.0
            } else {
                self.noise_dbfs
            };
            self.handle(Input::Frame {
                at: CallTime(self.clock),
                level_dbfs,
            });
            self.play_tick();
        }
        if self.clock >= self.next_window + 10 {
            let middle = self.next_window.saturating_sub(WINDOW_MS / 2);
            let probability = self
                .sound_at(middle)
                .map_or(0.02, |sound| sound.probability);
            let end = SamplePosition::at(CallTime(self.next_window));
            self.next_window += WINDOW_MS;
            if self.clock < self.detector_dies_at {
                self.handle(Input::Vad {
                    end,
                    samples: 256,
                    probability,
                });
            }
        }
    }

    fn sound_at(&self, ms: u64) -> Option<&Sound> {
        self.sounds
            .iter()
            .rev()
            .find(|sound| (sound.from..sound.to).contains(&ms))
    }

    // The driver.

    pub(super) fn handle(&mut self, input: Input) {
        self.conversation
            .handle(input, self.start + Duration::from_millis(self.clock));
        while let Some(output) = self.conversation.poll() {
            self.outputs.push((self.clock, output.clone()));
            self.obey(output);
        }
    }

    fn obey(&mut self, output: Output) {
        assert!(self.ended.is_none(), "after the end: {output:?}");
        match output {
            Output::Transcribe {
                generation,
                range,
                urgency,
            } => {
                self.check_newer(generation);
                self.note_urgency(generation, urgency);
                self.transcribe(generation, range);
            }
            Output::Generate {
                generation,
                messages,
                urgency,
                ..
            } => {
                self.check_newer(generation);
                self.note_urgency(generation, urgency);
                assert!(
                    messages
                        .iter()
                        .map(|message| message.content.len())
                        .sum::<usize>()
                        < 40_000
                );
                self.generate(generation);
            }
            Output::Speak {
                generation,
                clause,
                text,
                urgency,
            } => {
                if generation > self.newest {
                    self.check_newer(generation);
                    self.note_urgency(generation, urgency);
                }
                assert!(!text.trim().is_empty());
                self.speak(generation, clause, &text);
            }
            Output::Play { clip, from } => self.start_clip(clip, from),
            Output::StopPlayback { fade_ms } => {
                if let Some(clip) = self.queue.pop_front() {
                    self.fading = Some((
                        clip.id,
                        clip.played,
                        clip.length,
                        self.clock + u64::from(fade_ms),
                    ));
                }
                self.queue.clear();
            }
            Output::Commit { generation } => {
                assert!(
                    self.speculative.remove(&generation),
                    "committed twice or never asked for"
                );
            }
            Output::CancelWork { generation } | Output::Release { generation } => {
                self.dropped.insert(generation);
                let playing = |clip: &Clip| matches!(clip.id, ClipId::Clause { generation: own, .. } if own == generation);
                assert!(!self.queue.iter().any(playing), "audio dropped that plays");
            }
            Output::EndCall { reason, by } => {
                assert!(self.queue.is_empty(), "hung up while something played");
                self.ended = Some((self.clock, reason, by));
            }
            Output::Summarise { generation, .. } => {
                self.check_newer(generation);
                let text = "They want pies.".to_owned();
                self.later(2000, Input::ReplyText { generation, text });
                self.later(2000, Input::ReplyDone { generation });
            }
            Output::Message(_)
            | Output::Turn(_)
            | Output::JudgeTurn { .. }
            | Output::Prefill { .. }
            | Output::Duck(_)
            | Output::Transfer(_)
            | Output::Progress(_) => {}
        }
    }

    fn check_newer(&mut self, generation: Generation) {
        assert!(generation > self.newest, "generations never repeat");
        self.newest = generation;
    }

    fn note_urgency(&mut self, generation: Generation, urgency: Urgency) {
        if urgency != Urgency::Waited {
            self.speculative.insert(generation);
        }
    }

    fn start_clip(&mut self, id: ClipId, from: u32) {
        if let ClipId::Clause { generation, .. } = id {
            assert!(
                !self.speculative.contains(&generation),
                "played before the turn stood"
            );
            assert!(
                !self.dropped.contains(&generation),
                "played after it was given up"
            );
        }
        let length = *self.lengths.get(&id).expect("a clip that the driver has");
        assert!(from < length);
        self.queue.push_back(Clip {
            id,
            played: from,
            length,
            heard: usize::MAX,
        });
    }

    fn play_tick(&mut self) {
        let at = CallTime(self.clock);
        let samples = u32::try_from(TICK_MS * SAMPLES_PER_MS).unwrap();
        if let Some((clip, played, length, until)) = self.fading.take()
            && self.clock < until
            && played < length
        {
            let played = (played + samples).min(length);
            self.fading = Some((clip, played, length, until));
            self.handle(Input::Playback { clip, played, at });
        }
        let Some(clip) = self.queue.front_mut() else {
            return;
        };
        if clip.heard == usize::MAX {
            clip.heard = self.heard.len();
            self.heard.push(Heard {
                text: self.texts[&clip.id].clone(),
                from: self.clock,
                to: self.clock,
                first_sample: clip.played,
                played: 0,
                length: clip.length,
            });
        }
        clip.played = (clip.played + samples).min(clip.length);
        let heard = &mut self.heard[clip.heard];
        heard.played = clip.played;
        heard.to = self.clock + TICK_MS;
        let (id, played, done) = (clip.id, clip.played, clip.played >= clip.length);
        if done {
            self.queue.pop_front();
        }
        self.handle(Input::Playback {
            clip: id,
            played,
            at,
        });
        if done {
            self.handle(Input::PlaybackFinished { clip: id, at });
        }
    }
}
