//! [`AssistantSettings`] as durations, sample counts and sets of phrases.

use std::collections::BTreeMap;
use std::time::Duration;

use super::api::{ChatMessage, PhraseKind};
use super::endpointing::Waits;
use super::evidence::OtherLanguages;
use super::hearing::samples;
use super::phrases::PhraseSet;
use super::settings::{AssistantSettings, FirstMessageMode, Range, check, seconds};
use super::transferring::Trigger;

/// What a conversation goes by. Values that are not allowed became the nearest allowed ones.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) language: String,
    pub(super) other_languages: OtherLanguages,
    pub(super) prompt: Vec<ChatMessage>,
    pub(super) max_tokens: u32,
    pub(super) temperature: f32,
    pub(super) first_mode: FirstMessageMode,
    pub(super) greeting_interruptible: bool,
    pub(super) waits: Waits,
    pub(super) smart_endpointing: bool,
    pub(super) speculation: Option<Duration>,
    /// In samples of speech.
    pub(super) partials: Option<u64>,
    pub(super) num_words: usize,
    /// In samples of speech.
    pub(super) voice: u64,
    pub(super) backoff: Duration,
    pub(super) acknowledgements: PhraseSet,
    pub(super) interruptions: PhraseSet,
    pub(super) silence_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) idle_messages: u8,
    pub(super) idle_most: u32,
    pub(super) max_duration: Duration,
    pub(super) end_call_phrases: PhraseSet,
    pub(super) transfers: Vec<Trigger>,
    pub(super) keypad: Option<Duration>,
    pub(super) delimiters: String,
    /// Keys of a complete entry, where that is known.
    pub(super) keypad_length: Option<usize>,
    pub(super) keypad_retries: u32,
    pub(super) holding: Duration,
    pub(super) max_failed_turns: u32,
    pub(super) engine_timeout: Duration,
    pub(super) start_threshold: f32,
    pub(super) end_threshold: f32,
    /// In samples.
    pub(super) min_speech: u64,
    /// In samples.
    pub(super) pre_roll: u64,
    pub(super) phrases: BTreeMap<PhraseKind, String>,
}

fn time(value: f64, range: Range) -> Duration {
    seconds(range.nearest(value))
}

fn sample_count(value: f64, range: Range) -> u64 {
    samples(u64::try_from(time(value, range).as_millis()).unwrap_or(0))
}

impl Rules {
    pub(super) fn new(settings: &AssistantSettings) -> Self {
        let start = &settings.start_speaking_plan;
        let by_transcript = &start.transcription_endpointing_plan;
        let stop = &settings.stop_speaking_plan;
        let messages = &settings.message_plan;
        let failure = &settings.failure_plan;
        let detection = &settings.speech_detection_plan;
        let speculation = &settings.speculation_plan;
        let keypad = &settings.keypad_input_plan;
        let start_threshold = check::START_THRESHOLD.nearest(detection.start_threshold);
        let end_threshold = check::END_THRESHOLD.nearest(detection.end_threshold);
        let phrases: BTreeMap<_, _> = settings.phrases().into_iter().collect();
        Self {
            language: settings.transcriber.language.clone(),
            other_languages: match phrases.contains_key(&PhraseKind::OtherLanguage) {
                true => OtherLanguages::Refused,
                false => OtherLanguages::AsHeard,
            },
            prompt: settings.prompt(),
            max_tokens: settings.model.max_tokens.clamp(1, 10_000),
            temperature: check::TEMPERATURE.nearest(settings.model.temperature) as f32,
            first_mode: settings.first_message_mode,
            greeting_interruptible: settings.first_message_interruptions_enabled,
            waits: Waits {
                least: time(start.wait_seconds, check::WAIT),
                finished: time(
                    by_transcript.on_punctuation_seconds,
                    check::TRANSCRIPTION_WAIT,
                ),
                unfinished: time(
                    by_transcript.on_no_punctuation_seconds,
                    check::TRANSCRIPTION_WAIT,
                ),
                number: time(by_transcript.on_number_seconds, check::TRANSCRIPTION_WAIT),
                transcript_expected: speculation.enabled,
                unfinished_words: Waits::default_unfinished_words(),
                answers: Waits::default_answers(),
            },
            smart_endpointing: start.smart_endpointing_enabled,
            speculation: speculation
                .enabled
                .then(|| time(speculation.silence_seconds, check::SPECULATION)),
            partials: (speculation.enabled && speculation.partial_seconds != 0.0)
                .then(|| sample_count(speculation.partial_seconds, check::PARTIAL)),
            num_words: stop.num_words.min(10) as usize,
            voice: sample_count(stop.voice_seconds, check::VOICE),
            backoff: time(stop.backoff_seconds, check::BACKOFF),
            acknowledgements: PhraseSet::new(&stop.acknowledgement_phrases),
            interruptions: PhraseSet::new(&stop.interruption_phrases),
            silence_timeout: time(settings.silence_timeout_seconds, check::SILENCE_TIMEOUT),
            idle_timeout: time(messages.idle_timeout_seconds, check::IDLE_TIMEOUT),
            idle_messages: u8::try_from(messages.idle_messages.len()).unwrap_or(u8::MAX),
            idle_most: messages.idle_message_max_spoken_count.min(10),
            max_duration: time(settings.max_duration_seconds, check::MAX_DURATION),
            end_call_phrases: PhraseSet::new(&settings.end_call_phrases),
            transfers: Trigger::all(settings),
            keypad: keypad
                .enabled
                .then(|| time(keypad.timeout_seconds, check::KEYPAD_TIMEOUT)),
            delimiters: keypad.delimiters.clone(),
            keypad_length: match keypad.length.min(check::KEYPAD_MOST) {
                0 => None,
                length => Some(length as usize),
            },
            keypad_retries: keypad.retries.min(check::KEYPAD_MOST_RETRIES),
            holding: time(failure.holding_seconds, check::HOLDING),
            max_failed_turns: failure.max_failed_turns.clamp(1, 10),
            engine_timeout: time(failure.engine_timeout_seconds, check::ENGINE_TIMEOUT),
            start_threshold: start_threshold as f32,
            end_threshold: end_threshold.min(start_threshold) as f32,
            min_speech: sample_count(detection.min_speech_seconds, check::MIN_SPEECH),
            pre_roll: sample_count(detection.pre_roll_seconds, check::PRE_ROLL),
            phrases,
        }
    }
}
