//! What remains of a call: the words that the store, the API and the command line share.
//! Times are milliseconds since the call's media started (its clock), unless named otherwise.

mod answered;
mod document;
mod latency;
pub mod pcap;
mod scope;
mod voicemail;
mod webhook;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::{AssistantId, CallId, MailboxName, TrunkName, TurnNumber};

pub use answered::{AnsweredBy, Answerer, AnswererEvidence};
pub use document::CallDocument;
pub use latency::{AssistantLatency, PartLatency, TurnPart, latencies, percentile};
pub use scope::Scope;
pub use voicemail::{
    MailboxCounts, RecordingEnd, Transcription, Voicemail, VoicemailReason, VoicemailState,
};
pub use webhook::{Analysis, PARTIAL_TRANSCRIPT, TRANSCRIPT, WebhookDelivery, WebhookOutcome};

/// Which way a call was set up. Vapi's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CallType {
    /// Somebody called us.
    InboundPhoneCall,
    /// We called somebody.
    OutboundPhoneCall,
}

/// Where a call stands. Vapi's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallStatus {
    /// To be made at its time.
    Scheduled,
    /// To be made when a line is free.
    Queued,
    /// INVITE seen, not answered yet.
    Ringing,
    /// Answered.
    InProgress,
    /// Being passed on, or talking to somebody else through us.
    Forwarding,
    /// Over.
    Ended,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// The person on the phone.
    Customer,
    /// The assistant, by its rules.
    Assistant,
    /// The operator of this server: command, drain, limit.
    Operator,
    /// The person that the call was transferred to.
    TransferDestination,
    /// Nobody meant to: a failure or a crash.
    System,
}

/// Why a call ended. Serialised with Vapi's names where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedReason {
    /// BYE from the caller.
    CustomerEndedCall,
    /// CANCEL before the answer.
    CustomerCanceled,
    /// The caller was transferred, or the person that they were transferred to hung up.
    AssistantForwardedCall,
    /// The assistant decided to end the call.
    AssistantEndedCall,
    /// The assistant or the caller said one of `endCallPhrases`.
    AssistantSaidEndCallPhrase,
    /// `silenceTimeoutSeconds` passed without a word.
    SilenceTimedOut,
    /// `maxDurationSeconds` passed.
    ExceededMaxDuration,
    /// A mailbox ended the call: it has the message, or the owner has heard theirs.
    MailboxEndedCall,
    /// The operator ended the call.
    ManuallyCanceled,
    /// The server was told to stop and the drain time ran out.
    ServerShutdown,
    /// The server died during the call; found at the next start.
    ServerCrashed,
    /// No RTP arrived for the configured time.
    MediaTimedOut,
    /// The peer stopped answering SIP.
    SignallingTimedOut,
    /// Refused because all lines are in use.
    AdmissionRefused,
    /// Refused because an engine, a model, the disk or the database is not usable.
    ServiceUnavailable,
    /// Refused because the offer had nothing that we speak.
    IncompatibleMedia,
    /// An error of ours.
    InternalError,
    /// Outbound: it was to be made later, and there is no such assistant by then. Vapi's name.
    AssistantNotFound,
    /// Outbound: it could not be made before its `latestAt`.
    ScheduleExpired,
    /// A number's server did not say who answers (`assistant-request`). Vapi's name, as those
    /// that follow.
    AssistantRequestFailed,
    /// It said why nobody does, which the caller heard.
    AssistantRequestReturnedError,
    /// It said why nobody does, but not in words.
    AssistantRequestReturnedUnspeakableError,
    /// It named an assistant that there is not, or one that is wrong.
    AssistantRequestReturnedInvalidAssistant,
    /// It named none.
    AssistantRequestReturnedNoAssistant,
    /// It named a number that the caller was passed on to.
    AssistantRequestReturnedForwardingPhoneNumber,
    /// Outbound: an answering machine answered. Vapi's name.
    Voicemail,
    /// Outbound: the person called was busy.
    CustomerBusy,
    /// Outbound: nobody answered.
    CustomerDidNotAnswer,
    /// Outbound: refused with another final response.
    CallRejected,
    /// Outbound: the trunk cannot be reached.
    SipGatewayFailedToConnectCall,
    /// Outbound: the trunk wants somebody else called, which is not allowed.
    SipOutboundRedirectRefused,
    /// Outbound: our credentials or our right to call this number.
    SipOutboundForbidden,
    /// Outbound: there is no such number.
    SipOutboundNumberInvalid,
    /// Outbound: the trunk or the network behind it failed.
    SipOutboundServerFailed,
}

impl fmt::Display for EndedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self, f)
    }
}

impl fmt::Display for CallStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self, f)
    }
}

pub(crate) fn write_name(variant: &impl Serialize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // A unit variant always serialises, to its name.
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(name)) => f.write_str(&name),
        Ok(_) | Err(_) => f.write_str("unknown"),
    }
}

/// Who said a message. Vapi's roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The caller.
    User,
    /// The assistant.
    Bot,
    /// The instructions.
    System,
}

/// One message of a call: what was said and, for the assistant, actually played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Who.
    pub role: Role,
    /// The words. For the assistant only those that were played.
    pub message: String,
    /// First sound, in ms on the call's clock.
    pub start_ms: u64,
    /// Last sound, in ms on the call's clock.
    pub end_ms: u64,
    /// The turn it belongs to.
    pub turn: TurnNumber,
    /// The assistant was interrupted in it.
    pub interrupted: bool,
}

/// One turn's latency ledger, in ms on the call's clock. `None` where the turn ended before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnLedger {
    /// The turn.
    pub turn: TurnNumber,
    /// Last received frame above -45 dBFS of what the caller said.
    pub speech_ended_ms: Option<u64>,
    /// When the turn was judged to be over.
    pub endpoint_ms: Option<u64>,
    /// When the final transcript was there.
    pub transcript_ms: Option<u64>,
    /// First token of the reply.
    pub first_token_ms: Option<u64>,
    /// First clause complete and sent to be spoken.
    pub first_clause_ms: Option<u64>,
    /// First clause's audio there.
    pub first_audio_ms: Option<u64>,
    /// First audible packet of the reply sent.
    pub first_packet_ms: Option<u64>,
    /// First audible packet of a filler or holding phrase, where one was played.
    pub holding_packet_ms: Option<u64>,
    /// How often an engine failed or was restarted during the turn.
    pub retries: u32,
    /// The caller interrupted the reply at this time.
    pub interrupted_ms: Option<u64>,
    /// 1 where the reply was begun before it was known that the caller had finished, and used.
    #[serde(default)]
    pub speculations_kept: u32,
    /// Replies that were begun for nothing, because the caller went on, since the turn before.
    #[serde(default)]
    pub speculations_dropped: u32,
    /// How long those had been in the making when they were given up, in ms.
    #[serde(default)]
    pub speculations_wasted_ms: u64,
    /// Where the local engine served because a hosted one failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<Fallback>,
}

/// The local engine served in a hosted one's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// `stt`, `llm` or `tts`.
    pub engine: String,
    /// What failed: the label in metrics.
    pub error: String,
}

impl TurnLedger {
    /// Voice to voice: from the end of the caller's speech to the first packet of the reply.
    pub fn voice_to_voice_ms(&self) -> Option<u64> {
        Some(self.first_packet_ms?.saturating_sub(self.speech_ended_ms?))
    }
}

/// The person on the phone. Vapi's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Customer {
    /// E.164 with a plus; as it came where it is no such number.
    pub number: String,
    /// The name that came with it.
    pub name: Option<String>,
}

/// How one direction of a call sounded. Shares and scores are rounded to what they are worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamQuality {
    /// Packets that should have come.
    pub packets: u64,
    /// Of them, lost on the way.
    pub lost: u64,
    /// Of them, too late to be heard.
    pub late: u64,
    /// Interarrival jitter (RFC 3550), in ms.
    pub jitter_ms: f64,
    /// From mouth to ear as far as it is known, in ms.
    pub delay_ms: u64,
    /// Sound that was made up for lost packets, in ms; of what we heard only.
    pub concealed_ms: Option<u64>,
    /// Mean opinion score by the E-model (ITU-T G.107), 1 to 4.5.
    pub mos: f64,
}

/// How a call sounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallQuality {
    /// What we heard of the caller; `None` where nothing came.
    pub heard: Option<StreamQuality>,
    /// What the caller heard of us, by the caller's own reports; `None` where it sent none.
    pub spoken: Option<StreamQuality>,
    /// From us to the caller and back, in ms.
    pub round_trip_ms: Option<f64>,
}

/// Everything that is kept of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    /// The call.
    pub id: CallId,
    /// Inbound or outbound.
    #[serde(rename = "type")]
    pub call_type: CallType,
    /// Where it stands.
    pub status: CallStatus,
    /// Who answers.
    pub assistant: AssistantId,
    /// The calling URI or number.
    pub from: String,
    /// The called URI or number.
    pub to: String,
    /// The person on the phone; `None` where the number is withheld.
    #[serde(default)]
    pub customer: Option<Customer>,
    /// The trunk; `None` where the peer belongs to none.
    #[serde(default)]
    pub trunk: Option<TrunkName>,
    /// The phone number of the API that was called, or that we called from.
    #[serde(default)]
    pub phone_number_id: Option<String>,
    /// Whom the call was for before it was diverted to us.
    #[serde(default)]
    pub diverted_from: Option<String>,
    /// The peer's signalling address.
    pub peer: String,
    /// SIP Call-ID.
    pub sip_call_id: String,
    /// Call-IDs of the legs that came later: somebody called for the caller, or in their place.
    /// Only while the call lasts, so that their messages are kept with it.
    #[serde(skip)]
    pub later_call_ids: Vec<String>,
    /// INVITE seen.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Answered; the call's clock starts here.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// Over.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// Why it ended.
    pub ended_reason: Option<EndedReason>,
    /// By whom.
    pub ended_by: Option<EndedBy>,
    /// From the answer to the first audible packet of the greeting, in ms.
    pub greeting_ms: Option<u64>,
    /// Codec name in SDP's spelling.
    pub codec: Option<String>,
    /// The crypto suite of its media (RFC 4568); `None` where it is in the clear.
    #[serde(default)]
    pub srtp: Option<String>,
    /// How it sounded; known at its end.
    #[serde(default)]
    pub quality: Option<CallQuality>,
    /// Recording, relative to the data folder.
    pub recording: Option<String>,
    /// SHA-256 of the finished recording, in hexadecimal; known shortly after the call's end.
    #[serde(default)]
    pub recording_sha256: Option<String>,
    /// What was said.
    pub messages: Vec<Message>,
    /// Latencies by turn.
    pub turns: Vec<TurnLedger>,
    /// Digits received, in order. Not those that a mailbox asked for, which may be a PIN.
    pub digits: String,
    /// The mailbox that took the call, in place of the assistant or after it.
    #[serde(default)]
    pub mailbox: Option<MailboxName>,
    /// Outbound: who answered, where the assistant's `voicemailDetection` wants to know.
    #[serde(default)]
    pub answered_by: Option<AnsweredBy>,
}

/// Which way a SIP message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SipDirection {
    /// To us.
    Received,
    /// From us.
    Sent,
}

/// What carried a SIP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SipTransport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// One SIP message as it was on the wire, but for its secrets once it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipMessage {
    /// When we saw or sent it.
    pub at: OffsetDateTime,
    /// Which way.
    pub direction: SipDirection,
    /// By what.
    pub transport: SipTransport,
    /// Our address, as peers see it.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
    /// The message.
    pub bytes: Vec<u8>,
}

/// A message of a call's ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSipMessage {
    /// The Call-ID. A call has one for each of its legs.
    pub sip_call_id: String,
    /// Its place among the messages of this Call-ID; where numbers are missing, that many
    /// messages were left out.
    pub position: u32,
    /// The message, secrets masked.
    pub message: SipMessage,
}
