//! What objects look like, for the API's description. Fields that are not named here are kept
//! and returned as well.

#![allow(dead_code, reason = "read by the description only")]

use std::borrow::Cow;

use serde_json::Value;
use utoipa::openapi::schema::OneOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// An error, as every endpoint answers it.
#[derive(ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorShape {
    /// The HTTP status.
    #[schema(rename = "statusCode")]
    status_code: u16,
    /// Its name.
    error: String,
    /// What is wrong, in words; a list where the request has several mistakes.
    message: Value,
}

/// A field that does less than it says.
#[derive(ToSchema)]
#[schema(as = Warning)]
pub(super) struct WarningShape {
    /// Dotted path.
    field: String,
    /// What becomes of it.
    message: String,
}

/// Who talks. Every field is optional; those of Vapi's that nothing is done with are answered
/// with a warning.
#[derive(ToSchema)]
#[schema(as = Assistant, rename_all = "camelCase")]
pub(super) struct AssistantShape {
    /// A name for people.
    #[schema(max_length = 40)]
    name: Option<String>,
    /// What the assistant says first.
    #[schema(max_length = 1000)]
    first_message: Option<String>,
    /// `assistant-speaks-first`, `assistant-speaks-first-with-model-generated-message` or
    /// `assistant-waits-for-user`.
    first_message_mode: Option<FirstMessageMode>,
    /// Whether the caller can interrupt it.
    first_message_interruptions_enabled: Option<bool>,
    /// The recogniser: `provider`, `model`, `language`.
    #[schema(value_type = Option<Object>)]
    transcriber: Option<Value>,
    /// The language model: `provider`, `model`, `messages`, `temperature`, `maxTokens`.
    #[schema(value_type = Option<Object>)]
    model: Option<Value>,
    /// The voice: `provider`, `voiceId`, `speed`.
    #[schema(value_type = Option<Object>)]
    voice: Option<Value>,
    /// When it starts to speak.
    #[schema(value_type = Option<Object>)]
    start_speaking_plan: Option<Value>,
    /// When it stops.
    #[schema(value_type = Option<Object>)]
    stop_speaking_plan: Option<Value>,
    /// Silence after which the call ends.
    #[schema(minimum = 1, maximum = 3600)]
    silence_timeout_seconds: Option<f64>,
    /// Length after which it does.
    #[schema(minimum = 10, maximum = 43200)]
    max_duration_seconds: Option<f64>,
    /// Said before the assistant ends the call.
    #[schema(max_length = 1000)]
    end_call_message: Option<String>,
    /// Phrases that end the call.
    end_call_phrases: Option<Vec<String>>,
    /// Said to an answering machine.
    #[schema(max_length = 1000)]
    voicemail_message: Option<String>,
    /// Anything of yours.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// Who speaks first.
#[derive(ToSchema)]
enum FirstMessageMode {
    #[schema(rename = "assistant-speaks-first")]
    Said,
    #[schema(rename = "assistant-speaks-first-with-model-generated-message")]
    Generated,
    #[schema(rename = "assistant-waits-for-user")]
    Waits,
}

/// A number, and who answers it.
#[derive(ToSchema)]
#[schema(as = PhoneNumber, rename_all = "camelCase")]
pub(super) struct PhoneNumberShape {
    /// `byo-phone-number`.
    provider: PhoneNumberProvider,
    /// E.164, unless `numberE164CheckEnabled` is false.
    #[schema(min_length = 3, max_length = 40)]
    number: Option<String>,
    /// True where not given.
    #[schema(rename = "numberE164CheckEnabled")]
    number_e164_check_enabled: Option<bool>,
    /// The trunk that the number belongs to.
    credential_id: String,
    /// Who answers, and who calls from it where a call does not say.
    assistant_id: Option<String>,
    /// A name for people.
    #[schema(max_length = 40)]
    name: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
enum PhoneNumberProvider {
    ByoPhoneNumber,
}

/// A SIP trunk, or a provider's key. Secrets are kept encrypted and never returned.
#[derive(ToSchema)]
#[schema(as = Credential, rename_all = "camelCase")]
pub(super) struct CredentialShape {
    /// `byo-sip-trunk`, or a provider's name with `apiKey`.
    #[schema(min_length = 1, max_length = 40)]
    provider: String,
    /// A name for people.
    #[schema(min_length = 1, max_length = 40)]
    name: Option<String>,
    /// Where calls come from, and where they go.
    #[schema(min_items = 1, max_items = 64)]
    gateways: Option<Vec<GatewayShape>>,
    /// `authUsername` and `authPassword`.
    #[schema(value_type = Option<Object>)]
    outbound_authentication_plan: Option<Value>,
    /// Whether numbers have their plus on the wire.
    outbound_leading_plus_enabled: Option<bool>,
    /// What is put before every number.
    #[schema(min_length = 1, max_length = 40)]
    tech_prefix: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = SipTrunkGateway, rename_all = "camelCase")]
struct GatewayShape {
    /// An address, or a host name.
    ip: String,
    #[schema(minimum = 1, maximum = 65535)]
    port: Option<u16>,
    #[schema(minimum = 24, maximum = 32)]
    netmask: Option<u8>,
    inbound_enabled: Option<bool>,
    outbound_enabled: Option<bool>,
    /// `udp`, `tcp`, `tls` or `tls/srtp`.
    outbound_protocol: Option<String>,
}

/// A call to make.
#[derive(ToSchema)]
#[schema(as = CreateCall, rename_all = "camelCase")]
pub(super) struct CreateCallShape {
    /// Who talks: this, `assistant`, or the phone number's.
    assistant_id: Option<String>,
    /// Who talks, for this call only.
    assistant: Option<AssistantShape>,
    /// Fields of the assistant that are other for this call; `variableValues` fill `{{names}}`.
    #[schema(value_type = Option<Object>)]
    assistant_overrides: Option<Value>,
    /// The number that is called from. Not needed where there is one trunk to call through.
    phone_number_id: Option<String>,
    /// Who is called.
    customer: Option<CustomerShape>,
    /// In place of `customer`: a call to each of them, when lines are free. The answer is then
    /// `results`, the calls, and `errors`.
    #[schema(min_items = 1, max_items = 1000)]
    customers: Option<Vec<CustomerShape>>,
    /// When to call: `earliestAt` and `latestAt`, as RFC 3339 has times.
    #[schema(value_type = Option<Object>)]
    schedule_plan: Option<Value>,
    /// A name for people.
    #[schema(max_length = 40)]
    name: Option<String>,
}

/// Who is called.
#[derive(ToSchema)]
#[schema(as = Customer, rename_all = "camelCase")]
struct CustomerShape {
    /// E.164.
    number: Option<String>,
    /// In place of a number.
    sip_uri: Option<String>,
    /// Their name.
    #[schema(max_length = 40)]
    name: Option<String>,
}

/// What becomes of a request for calls: the call, or what became of each where there were several.
pub(super) struct CreatedShape;

impl PartialSchema for CreatedShape {
    fn schema() -> RefOr<Schema> {
        let either = OneOfBuilder::new()
            .item(Ref::from_schema_name(CallShape::name()))
            .item(Ref::from_schema_name(CallBatchShape::name()));
        Schema::OneOf(either.build()).into()
    }
}

impl ToSchema for CreatedShape {
    fn name() -> Cow<'static, str> {
        "CreatedCall".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((CallShape::name().into_owned(), CallShape::schema()));
        schemas.push((
            CallBatchShape::name().into_owned(),
            CallBatchShape::schema(),
        ));
        CallShape::schemas(schemas);
        CallBatchShape::schemas(schemas);
    }
}

/// What became of the calls to several customers.
#[derive(ToSchema)]
#[schema(as = CallBatch)]
struct CallBatchShape {
    /// Those that are kept.
    results: Vec<CallShape>,
    /// Those that are not.
    errors: Vec<CallBatchErrorShape>,
}

/// A customer that cannot be called.
#[derive(ToSchema)]
#[schema(as = CallBatchError)]
struct CallBatchErrorShape {
    customer: CustomerShape,
    /// Why not.
    error: String,
}

/// A kept or live call.
#[derive(ToSchema)]
#[schema(as = Call, rename_all = "camelCase")]
pub(super) struct CallShape {
    id: String,
    org_id: String,
    /// `inboundPhoneCall` or `outboundPhoneCall`.
    #[schema(rename = "type")]
    call_type: String,
    /// `scheduled`, `queued`, `ringing`, `in-progress`, `forwarding` or `ended`.
    status: String,
    ended_reason: Option<String>,
    created_at: String,
    updated_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    assistant_id: Option<String>,
    phone_number_id: Option<String>,
    customer: Option<CustomerShape>,
    name: Option<String>,
    /// What was said; not in lists.
    #[schema(value_type = Option<Vec<Object>>)]
    messages: Option<Vec<Value>>,
    /// What the model says of it, once it does: not in lists.
    analysis: Option<AnalysisShape>,
    /// Transcript, messages and the paths of recordings and logs.
    #[schema(value_type = Option<Object>)]
    artifact: Option<Value>,
    /// What only Offhook knows: latencies by turn, quality, keys pressed, SIP addresses.
    #[schema(value_type = Object)]
    offhook: Value,
}

/// What the assistant's `analysisPlan` asked for.
#[derive(ToSchema)]
#[schema(as = Analysis, rename_all = "camelCase")]
struct AnalysisShape {
    /// What the call was about.
    summary: Option<String>,
    /// Whether it succeeded, by the plan's rubric.
    success_evaluation: Option<String>,
    /// What was found out, by the plan's schema.
    #[schema(value_type = Option<Object>)]
    structured_data: Option<Value>,
}

/// What of a kept call can be changed.
#[derive(ToSchema)]
#[schema(as = UpdateCall)]
pub(super) struct UpdateCallShape {
    /// A name for people; `null` takes it away.
    #[schema(max_length = 40)]
    name: Option<String>,
}
