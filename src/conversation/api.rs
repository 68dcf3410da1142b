//! What goes into a [`Conversation`](super::Conversation) and what comes out of it.

use std::fmt;
use std::time::Duration;

use crate::ids::{Generation, TurnNumber};
use crate::record::{EndedBy, EndedReason, Message, Role, TurnLedger};

/// Samples a millisecond at the telephone rate of 8 kHz.
pub const SAMPLES_PER_MS: u64 = 8;

/// Milliseconds since the call's media started: the call's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallTime(pub u64);

impl CallTime {
    /// As a time since the call's media started.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// The bare milliseconds, as the ledger stores them.
    pub fn millis(self) -> u64 {
        self.0
    }
}

/// A place on the caller's timeline: 8 kHz samples since the call's media started. The timeline
/// runs with the call's clock (one 160-sample frame a tick, gaps filled), so that a place is also
/// a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SamplePosition(pub u64);

impl SamplePosition {
    /// When this sample passed, on the call's clock.
    pub fn time(self) -> CallTime {
        CallTime(self.0 / SAMPLES_PER_MS)
    }

    /// The place that passes at `time`.
    pub fn at(time: CallTime) -> Self {
        Self(time.0.saturating_mul(SAMPLES_PER_MS))
    }
}

/// A half-open range `start..end` of the caller's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioRange {
    /// First sample.
    pub start: SamplePosition,
    /// One past the last sample.
    pub end: SamplePosition,
}

impl AudioRange {
    /// Length in samples.
    pub fn samples(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }
}

/// A fixed phrase, synthesised before it is needed, so that a dead engine still speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PhraseKind {
    /// `firstMessage`.
    Greeting,
    /// "One moment please."
    Holding,
    /// "Sorry, I missed that."
    Missed,
    /// "I'm sorry, I only understand English."
    OtherLanguage,
    /// The turn failed, the call goes on.
    Apology,
    /// The call ends because the engines keep failing.
    Trouble,
    /// The n-th of `messagePlan.idleMessages`.
    Idle(u8),
    /// `endCallMessage`.
    EndCall,
    /// `holdPlan.message`. The driver's to play: a conversation on hold says nothing.
    Hold,
    /// `holdPlan.resumedMessage`.
    Resumed,
    /// `keypadInputPlan.retryMessage`.
    EnterAgain,
    /// Before the operator passes the caller on.
    Announcement,
    /// Before the caller is passed on to the n-th of `transfers`.
    Transfer(u8),
    /// Before the caller leaves a message.
    Mailbox,
    /// `voicemailMessage`, for the answering machine of whom we call. The driver's to play.
    VoicemailMessage,
    /// For the person called by the n-th of `transfers`. The driver's to play.
    Briefing(u8),
    /// The caller could not be passed on.
    NotThrough(NotThrough),
}

/// Why a caller was not put through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotThrough {
    /// The person was busy.
    Busy,
    /// Nobody answered.
    NoAnswer,
    /// Anything else.
    Failed,
}

/// To whom a caller is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferTo {
    /// The n-th of `transfers`, as the caller asked.
    Destination(u8),
    /// Whomever the operator named.
    Operators,
    /// The mailbox, as the caller asked.
    Mailbox,
}

/// Length and lead-in of audio that the driver holds, in samples at 8 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipLength {
    /// All of it.
    pub samples: u32,
    /// Samples before the first audible one.
    pub audible_from: u32,
}

/// Names audio that the driver holds and can play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClipId {
    /// A prepared phrase.
    Phrase(PhraseKind),
    /// A clause synthesised for this call, answered by [`Input::ClauseReady`].
    Clause {
        /// The generation of its [`Output::Speak`].
        generation: Generation,
        /// The clause index of its [`Output::Speak`].
        clause: u32,
    },
}

/// A decoded stretch of the caller's speech.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// The words, trimmed; empty where none were heard.
    pub text: String,
    /// Mean natural-log probability of the tokens (0 is certain, below about -1 is guessing).
    pub mean_logprob: f32,
    /// Whisper's probability that nobody spoke, 0 to 1.
    pub no_speech_probability: f32,
    /// The decode was stopped or cut because it repeated itself.
    pub repeated: bool,
    /// In which language it was said; `None` where the recogniser cannot tell.
    pub language: Option<SpokenLanguage>,
}

/// Whether the caller spoke the language of `transcriber.language`. Whatever they spoke, the words
/// are written as if they had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpokenLanguage {
    /// Probability of that language, among all that the recogniser knows.
    pub expected_probability: f32,
    /// Probability of the likeliest of the others.
    pub other_probability: f32,
}

/// One engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Speech to text.
    Stt,
    /// The language model.
    Llm,
    /// Text to speech.
    Tts,
}

/// Work that was asked of an engine and failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// An [`Output::Transcribe`].
    Transcribe,
    /// An [`Output::Generate`].
    Generate,
    /// An [`Output::Speak`] of this clause.
    Speak {
        /// The clause.
        clause: u32,
    },
}

/// What the server or its operator does to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The call is on hold: nothing plays, nothing is heard, every timer stands still.
    Hold,
    /// The hold is over; what was being said goes on.
    Resume,
    /// The hold was ours and is over: the caller is thanked for waiting, then as
    /// [`Control::Resume`].
    TakeBack,
    /// The operator has the caller passed on: they are told, then comes [`Output::Transfer`].
    Transfer,
    /// The caller was not put through after [`Output::Transfer`]: they are told why, and the
    /// conversation goes on.
    ComeBack(NotThrough),
    /// The assistant says this, after what it is saying now.
    Say {
        /// The words.
        text: String,
        /// Then the call ends with [`EndedReason::ManuallyCanceled`].
        end_call_after_spoken: bool,
    },
    /// The model is told something that nobody hears.
    AddMessage {
        /// Who is taken to have said it.
        role: ChatRole,
        /// The words.
        content: String,
        /// The assistant answers it: at once where nobody speaks, else with its next turn.
        respond: bool,
    },
    /// The call ends; what is playing stops.
    End {
        /// The reason that is recorded.
        reason: EndedReason,
        /// By whom.
        by: EndedBy,
        /// Say `endCallMessage` first, where one is set.
        say_goodbye: bool,
    },
}

/// Everything a conversation learns from outside. Results of work name the generation they were
/// asked under; results of an old one change nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Audio flows both ways; the call's clock reads 0 now. Once, before all other inputs but
    /// [`Input::HungUp`].
    MediaStarted,
    /// A caller's frame of 20 ms arrived in a packet (no input for concealed or missing ones).
    Frame {
        /// Arrival on the call's clock.
        at: CallTime,
        /// Its level, dB relative to full scale.
        level_dbfs: f32,
    },
    /// The voice activity detector judged a window, in order of `end`.
    Vad {
        /// One past the window's last sample.
        end: SamplePosition,
        /// Samples in the window.
        samples: u32,
        /// Probability of speech, 0 to 1.
        probability: f32,
    },
    /// An end-of-turn model's judgement of the speech up to `end` (optional).
    TurnProbability {
        /// The speech that it looked at ends here.
        end: SamplePosition,
        /// Probability that the caller has finished, 0 to 1.
        probability: f32,
    },
    /// A transcript is there.
    Transcript {
        /// Of the [`Output::Transcribe`].
        generation: Generation,
        /// What was heard.
        transcript: Transcript,
    },
    /// A language model's judgement of whether the caller's words are a whole sentence
    /// (optional), before the first piece of a reply that is made ahead.
    SentenceEnds {
        /// Of the [`Output::Generate`].
        generation: Generation,
        /// Probability that no more words follow, 0 to 1.
        probability: f32,
    },
    /// The next piece of a reply: any split of the text, at UTF-8 boundaries.
    ReplyText {
        /// Of the [`Output::Generate`].
        generation: Generation,
        /// The text.
        text: String,
    },
    /// The reply is complete (end of text or `maxTokens`).
    ReplyDone {
        /// Of the [`Output::Generate`].
        generation: Generation,
    },
    /// A clause's audio is there, whole.
    ClauseReady {
        /// Of the [`Output::Speak`].
        generation: Generation,
        /// Of the [`Output::Speak`].
        clause: u32,
        /// Its length.
        length: ClipLength,
    },
    /// Work failed, timed out or was refused by a full queue. Not for work that was cancelled.
    Failed {
        /// Of the output that asked for it.
        generation: Generation,
        /// What failed.
        work: Work,
        /// Asking again may help. The conversation asks again once, under a new generation.
        retryable: bool,
    },
    /// An engine went down or came back. Optional: where it is reported, report it down before
    /// the failures that this causes, and a second attempt waits until it is back.
    EngineState {
        /// Which.
        engine: Engine,
        /// Whether it takes work.
        up: bool,
    },
    /// A tick played a part of a clip.
    Playback {
        /// The clip.
        clip: ClipId,
        /// How many of its samples were played so far, counted from the clip's start (also when
        /// it was started in the middle).
        played: u32,
        /// When the packet was sent, on the call's clock.
        at: CallTime,
    },
    /// A clip was played to its end.
    PlaybackFinished {
        /// The clip.
        clip: ClipId,
        /// When its last packet was sent.
        at: CallTime,
    },
    /// The caller pressed a key: `0`-`9`, `*`, `#`, `A`-`D`.
    Digit(char),
    /// Call control.
    Control(Control),
    /// The call is over for the other side, or media died.
    HungUp,
    /// Nothing happened; [`deadline`](super::Conversation::deadline) passed.
    Timeout,
}

/// Who speaks in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatRole {
    /// Instructions.
    System,
    /// The caller.
    User,
    /// The assistant.
    Assistant,
}

impl ChatRole {
    /// The name that chat templates use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl fmt::Display for ChatRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One message for the language model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who.
    pub role: ChatRole,
    /// The words.
    pub content: String,
}

/// Whether a caller waits for a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Only where the engine has nothing else to do; else [`Input::Failed`] at once.
    Spare,
    /// It may be thrown away; [`Output::Commit`] raises it.
    Speculative,
    /// The caller waits to be let speak: a first guess will do.
    Glance,
    /// The caller is waiting.
    Waited,
}

/// What somebody watching the call sees at once. Nothing depends on it.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// The caller or the assistant began or stopped speaking.
    Speech {
        /// Who.
        role: Role,
        /// Began.
        speaking: bool,
    },
    /// Words of the caller that may still change.
    PartialTranscript(String),
    /// The assistant was interrupted for good.
    UserInterrupted {
        /// The turn it was speaking in.
        turn: TurnNumber,
    },
    /// The assistant goes on after a false interruption.
    Resumed {
        /// The turn it is speaking in.
        turn: TurnNumber,
    },
    /// A transcript was refused for lack of evidence that anybody spoke.
    TranscriptRefused,
    /// A speculation was thrown away because the caller went on.
    SpeculationDropped {
        /// How long it had been in the making.
        wasted: Duration,
    },
    /// A speculation was used.
    SpeculationKept,
}

/// What a conversation wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Decode this stretch of the caller's timeline; answer with [`Input::Transcript`] or
    /// [`Input::Failed`]. Reaches back at most 31 s from now.
    Transcribe {
        /// Goes back with the answer.
        generation: Generation,
        /// What to decode, pre-roll included.
        range: AudioRange,
        /// Whether the caller waits.
        urgency: Urgency,
    },
    /// Have the end-of-turn model, where there is one, judge this stretch; answer with
    /// [`Input::TurnProbability`], or not at all. Reaches back at most 8 s from now.
    JudgeTurn {
        /// Where the speech ends: goes back with the answer.
        speech_end: SamplePosition,
        /// What to judge, the silence so far included.
        range: AudioRange,
    },
    /// Have the language model read this, which its next reply will be based on. No answer; the
    /// next one, or a reply, takes its place.
    Prefill {
        /// As for [`Output::Generate`]; the last message may be a beginning.
        messages: Vec<ChatMessage>,
    },
    /// Have the language model write a summary, when nobody waits for it, without forgetting what
    /// it has read of this call; streamed as for [`Output::Generate`].
    Summarise {
        /// Goes back with the answer.
        generation: Generation,
        /// Instructions, and what to summarise.
        messages: Vec<ChatMessage>,
        /// Its length.
        max_tokens: u32,
    },
    /// Run the language model and stream [`Input::ReplyText`] until [`Input::ReplyDone`] or
    /// [`Input::Failed`]. Where the last message is the assistant's, the model goes on with it
    /// (a reply that broke off).
    Generate {
        /// Goes back with the answer.
        generation: Generation,
        /// System prompt first, then the conversation as it was heard.
        messages: Vec<ChatMessage>,
        /// `model.maxTokens`.
        max_tokens: u32,
        /// `model.temperature`.
        temperature: f32,
        /// Whether the caller waits.
        urgency: Urgency,
    },
    /// Synthesise a clause; answer with [`Input::ClauseReady`] or [`Input::Failed`] and keep the
    /// audio until the generation is cancelled or released.
    Speak {
        /// Goes back with the answer.
        generation: Generation,
        /// Index under the generation, from 0.
        clause: u32,
        /// Speakable text.
        text: String,
        /// Whether the caller waits.
        urgency: Urgency,
    },
    /// Play a clip after those asked for before, and report it with [`Input::Playback`] every
    /// tick and [`Input::PlaybackFinished`].
    Play {
        /// What.
        clip: ClipId,
        /// Start at this sample of it.
        from: u32,
    },
    /// Play lower by 22 dB, since the caller may be interrupting, or no longer so.
    Duck(bool),
    /// Stop what is playing, at full volume what comes next, fading out over `fade_ms`, and forget every clip asked for. No
    /// [`Input::PlaybackFinished`] for those; late [`Input::Playback`] is welcome.
    StopPlayback {
        /// Fade in ms.
        fade_ms: u32,
    },
    /// The speculative work of this generation became work that the caller waits for.
    Commit {
        /// Which.
        generation: Generation,
    },
    /// Stop all work of this generation and drop its audio. Unknown or finished ones are fine.
    CancelWork {
        /// Which.
        generation: Generation,
    },
    /// Nothing of this generation is played any more: drop its audio.
    Release {
        /// Which.
        generation: Generation,
    },
    /// Hang up now: playout is drained and the tail has passed. The last output but for records,
    /// which come before it.
    EndCall {
        /// Why.
        reason: EndedReason,
        /// By whom.
        by: EndedBy,
    },
    /// The caller was told: pass them on. As on hold until [`Control::ComeBack`] or the end.
    Transfer(TransferTo),
    /// A message is final.
    Message(Message),
    /// A turn is final.
    Turn(TurnLedger),
    /// For those who watch.
    Progress(Progress),
}
