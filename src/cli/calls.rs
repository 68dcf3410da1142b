//! `offhook calls`: what a server has kept; for live calls see `live`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Failure, Kept, ladder, live, print};
use crate::ids::CallId;
use crate::record::{
    Analysis, AssistantLatency, CallQuality, CallRecord, PartLatency, Role, StreamQuality,
    TurnLedger, latencies,
};
use crate::store::{CallQuery, KeptTurn, Store};

/// `offhook calls`.
#[derive(Debug, Args)]
pub struct Calls {
    #[command(subcommand)]
    command: Option<CallsCommand>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum CallsCommand {
    /// List calls, newest first.
    List(List),
    /// Show one call: what was said, when, and how long each answer took.
    Show(Show),
    /// List the calls that a running server has now.
    Live(live::At),
    /// Put a live call's caller on hold, with music.
    Hold(live::Which),
    /// Take a caller back who was put on hold.
    Resume(live::Which),
    /// End a live call.
    Hangup(live::Which),
    /// Leave out of a call's recording what is said from now on.
    PauseRecording(live::Which),
    /// Record a call again.
    ResumeRecording(live::Which),
    /// Have a live call's assistant say something.
    Say(live::Say),
    /// Show how long answers took, by assistant: half of them, 95 of 100, and the longest.
    Latency(Latency),
    /// Save the SIP messages of one call as a packet capture, which Wireshark reads.
    Pcap(Pcap),
    /// Pass a live call's caller on to somebody else.
    Transfer(live::Transfer),
    /// Have a live call's caller leave a message in a mailbox.
    Voicemail(live::LeaveMessage),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    kept: Kept,
    /// At most this many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only calls before this time (RFC 3339), to page.
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Show {
    /// The call's id, or the beginning of it.
    id: String,
    #[command(flatten)]
    kept: Kept,
    /// Show its SIP messages instead, as a ladder; with --json in full.
    #[arg(long)]
    sip: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Latency {
    #[command(flatten)]
    kept: Kept,
    /// Of calls made in the last so many hours; of the newest 10,000 turns at most.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    hours: u32,
    /// Of this assistant only.
    #[arg(long, value_name = "NAME")]
    assistant: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Pcap {
    /// The call's id, or the beginning of it.
    id: String,
    /// The file to write.
    file: PathBuf,
    #[command(flatten)]
    kept: Kept,
}

pub(super) async fn calls(command: Calls) -> Result<(), Failure> {
    match command.command {
        None => list(command.list).await,
        Some(CallsCommand::List(command)) => list(command).await,
        Some(CallsCommand::Show(command)) => show(command).await,
        Some(CallsCommand::Live(command)) => live::live(command).await,
        Some(CallsCommand::Hold(command)) => live::hold(command).await,
        Some(CallsCommand::Resume(command)) => live::resume(command).await,
        Some(CallsCommand::Hangup(command)) => live::hangup(command).await,
        Some(CallsCommand::PauseRecording(command)) => live::pause_recording(command).await,
        Some(CallsCommand::ResumeRecording(command)) => live::resume_recording(command).await,
        Some(CallsCommand::Say(command)) => live::say(command).await,
        Some(CallsCommand::Pcap(command)) => pcap(command).await,
        Some(CallsCommand::Latency(command)) => latency(command).await,
        Some(CallsCommand::Transfer(command)) => live::transfer(command).await,
        Some(CallsCommand::Voicemail(command)) => live::leave_message(command).await,
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

async fn list(command: List) -> Result<(), Failure> {
    let before = match &command.before {
        Some(text) => Some(OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            Failure::Usage(format!(
                "--before: {text:?} is no time like 2026-01-31T12:00:00Z"
            ))
        })?),
        None => None,
    };
    let query = CallQuery {
        limit: command.limit,
        before,
        ..CallQuery::default()
    };
    let calls = match Store::open_existing(&command.kept.database()?)
        .await
        .map_err(failed)?
    {
        Some(store) => store.calls(&query).await.map_err(failed)?,
        None => Vec::new(),
    };
    if command.json {
        print::json(&calls);
    } else if calls.is_empty() {
        print::line(&format!("No calls in {}.", command.kept.database()?));
    } else {
        let rows: Vec<Vec<String>> = calls.iter().map(row).collect();
        print::table(
            &["ID", "TIME", "FROM", "TO", "ASSISTANT", "SECONDS", "ENDED"],
            &rows,
        );
    }
    Ok(())
}

fn row(call: &CallRecord) -> Vec<String> {
    let length = call
        .started_at
        .zip(call.ended_at)
        .map(|(start, end)| (end - start).whole_seconds());
    vec![
        call.id.to_string(),
        call.created_at.format(&Rfc3339).unwrap_or_default(),
        call.from.clone(),
        call.to.clone(),
        answered_by(call),
        length.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string()),
        call.ended_reason
            .map_or_else(|| "in progress".to_owned(), |reason| reason.to_string()),
    ]
}

/// The assistant, or else the mailbox.
fn answered_by(call: &CallRecord) -> String {
    match (&call.mailbox, call.assistant.as_str()) {
        (Some(mailbox), "") => format!("mailbox {mailbox}"),
        (_, assistant) => assistant.to_owned(),
    }
}

/// A call as JSON has it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    call: &'a CallRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    analysis: Option<&'a Analysis>,
}

async fn show(command: Show) -> Result<(), Failure> {
    let (store, call) = open(&command.kept, &command.id).await?;
    let analysis = store.analysis(call.id).await.map_err(failed)?;
    match (command.sip, command.json) {
        (false, true) => print::json(&Shown {
            call: &call,
            analysis: analysis.as_ref().and_then(Option::as_ref),
        }),
        (false, false) => describe(&call, analysis.as_ref().map(Option::as_ref)),
        (true, json) => {
            let messages = store.sip_messages(call.id).await.map_err(failed)?;
            match json {
                true => ladder::print_json(&messages),
                false => ladder::print_ladder(&messages),
            }
        }
    }
    Ok(())
}

async fn latency(command: Latency) -> Result<(), Failure> {
    let since = OffsetDateTime::now_utc() - time::Duration::hours(i64::from(command.hours));
    let database = command.kept.database()?;
    let turns = match Store::open_existing(&database).await.map_err(failed)? {
        Some(store) => store.turns(since).await.map_err(failed)?,
        None => Vec::new(),
    };
    let wanted = |turn: &KeptTurn| {
        let named = command.assistant.as_deref();
        named.is_none_or(|name| name == turn.assistant.as_str())
    };
    let turns = turns.into_iter().filter(wanted);
    let found = latencies(turns.map(|turn| (turn.assistant, turn.ledger)));
    if command.json {
        print::json(&found);
    } else if found.is_empty() {
        print::line(&format!("No turns in the last {} hours.", command.hours));
    } else {
        print::line("ms from the end of the caller's speech:");
        let rows: Vec<Vec<String>> = found.iter().flat_map(latency_rows).collect();
        print::table(&["ASSISTANT", "PART", "TURNS", "P50", "P95", "MAX"], &rows);
        for assistant in &found {
            let (kept, dropped) = (assistant.speculations_kept, assistant.speculations_dropped);
            print::line(&format!(
                "{}: {kept} replies begun early were used, {dropped} were begun for nothing ({} ms)",
                assistant.assistant, assistant.speculations_wasted_ms
            ));
        }
    }
    Ok(())
}

fn latency_rows(found: &AssistantLatency) -> Vec<Vec<String>> {
    let row = |part: &PartLatency| {
        vec![
            found.assistant.to_string(),
            part.part.label().replace('_', " "),
            part.turns.to_string(),
            part.p50_ms.to_string(),
            part.p95_ms.to_string(),
            part.max_ms.to_string(),
        ]
    };
    found.parts.iter().map(row).collect()
}

async fn pcap(command: Pcap) -> Result<(), Failure> {
    let (store, call) = open(&command.kept, &command.id).await?;
    let messages = store.sip_messages(call.id).await.map_err(failed)?;
    ladder::save(&messages, &command.file)
        .map_err(|error| failed(format!("{}: {error}", command.file.display())))?;
    let count = messages.len();
    print::line(&format!("{count} messages in {}", command.file.display()));
    Ok(())
}

pub(super) async fn open(kept: &Kept, id: &str) -> Result<(Store, CallRecord), Failure> {
    let database = kept.database()?;
    let none = || Failure::Failed(format!("there is no call {id} in {database}"));
    let store = Store::open_existing(&database)
        .await
        .map_err(failed)?
        .ok_or_else(none)?;
    let id = find(&store, id).await?.ok_or_else(none)?;
    let call = store.call(id).await.map_err(failed)?.ok_or_else(none)?;
    Ok((store, call))
}

async fn find(store: &Store, id: &str) -> Result<Option<CallId>, Failure> {
    let found = store.ids_starting(id).await.map_err(failed)?;
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        _ => Err(Failure::Usage(format!(
            "more than one call's id begins with {id}"
        ))),
    }
}

fn describe(call: &CallRecord, analysis: Option<Option<&Analysis>>) {
    print::line(&format!("call       {}", call.id));
    print::line(&format!("from       {} ({})", call.from, call.peer));
    print::line(&format!("to         {} -> {}", call.to, answered_by(call)));
    if let Some(mailbox) = &call.mailbox {
        print::line(&format!("mailbox    {mailbox}"));
    }
    if let Some(customer) = &call.customer {
        let name = customer.name.as_deref().unwrap_or_default();
        print::line(format!("customer   {} {name}", customer.number).trim_end());
    }
    if let Some(trunk) = &call.trunk {
        print::line(&format!("trunk      {trunk}"));
    }
    if let Some(first) = &call.diverted_from {
        print::line(&format!("diverted   from {first}"));
    }
    print::line(&format!(
        "time       {}",
        call.created_at.format(&Rfc3339).unwrap_or_default()
    ));
    if let Some(codec) = &call.codec {
        let srtp = call.srtp.as_deref().unwrap_or("in the clear");
        print::line(&format!("codec      {codec}, {srtp}"));
    }
    if let Some(quality) = &call.quality {
        describe_quality(quality);
    }
    if let Some(answered) = &call.answered_by {
        let seconds = answered.after_ms as f64 / 1000.0;
        let (who, evidence) = (answered.who, answered.evidence);
        print::line(&format!(
            "answered   by {who} ({evidence}), known after {seconds:.1} s"
        ));
        if let Some(ms) = answered.message_ms {
            let seconds = ms as f64 / 1000.0;
            print::line(&format!("message    left for it after {seconds:.1} s"));
        }
    }
    if let Some(reason) = call.ended_reason {
        print::line(&format!("ended      {reason}"));
    }
    if let Some(recording) = &call.recording {
        print::line(&format!("recording  {recording}"));
        if let Some(hash) = &call.recording_sha256 {
            print::line(&format!("sha-256    {hash}"));
        }
    }
    if !call.digits.is_empty() {
        print::line(&format!("digits     {}", call.digits));
    }
    match analysis {
        None => {}
        Some(None) => print::line("analysis   waits for the model"),
        Some(Some(analysis)) => describe_analysis(analysis),
    }
    print::line("");
    for message in &call.messages {
        let who = match message.role {
            Role::User => "caller",
            Role::Bot => "assistant",
            Role::System => "system",
        };
        let cut = if message.interrupted {
            " [interrupted]"
        } else {
            ""
        };
        print::line(&format!(
            "{:>8.2} s  {who:<9}  {}{cut}",
            message.start_ms as f64 / 1000.0,
            message.message
        ));
    }
    if call.turns.is_empty() {
        return;
    }
    print::line("\nms from the end of the caller's speech:");
    let rows: Vec<Vec<String>> = call.turns.iter().map(ledger_row).collect();
    print::table(
        &[
            "TURN",
            "ENDPOINT",
            "TRANSCRIPT",
            "TOKEN",
            "CLAUSE",
            "AUDIO",
            "PACKET",
            "HOLDING",
            "BEGUN EARLY",
            "RETRIES",
        ],
        &rows,
    );
}

fn describe_analysis(analysis: &Analysis) {
    if let Some(summary) = &analysis.summary {
        print::line(&format!("summary    {summary}"));
    }
    if let Some(success) = &analysis.success_evaluation {
        print::line(&format!("success    {success}"));
    }
    if let Some(data) = &analysis.structured_data {
        print::line(&format!(
            "data       {}",
            serde_json::Value::from(data.clone())
        ));
    }
}

fn describe_quality(quality: &CallQuality) {
    let streams = [("heard", &quality.heard), ("spoken", &quality.spoken)];
    for (name, stream) in streams {
        let Some(stream) = stream else { continue };
        let StreamQuality {
            packets,
            lost,
            late,
            jitter_ms,
            delay_ms,
            concealed_ms,
            mos,
        } = stream;
        let mut line = format!(
            "{name:<10} MOS {mos:.2}: {packets} packets, {lost} lost, {late} late, \
             jitter {jitter_ms:.1} ms, delay {delay_ms} ms"
        );
        if let Some(concealed) = concealed_ms {
            line.push_str(&format!(", {concealed} ms made up"));
        }
        print::line(&line);
    }
    if let Some(ms) = quality.round_trip_ms {
        print::line(&format!("round trip {ms:.1} ms"));
    }
}

/// Whether a reply that was begun before the turn was over was used, and how many were not.
fn begun_early(turn: &TurnLedger) -> String {
    let used = if turn.speculations_kept > 0 {
        "used"
    } else {
        ""
    };
    let dropped = match turn.speculations_dropped {
        0 => String::new(),
        count => format!("{count} dropped ({} ms)", turn.speculations_wasted_ms),
    };
    let both: Vec<&str> = [used, &dropped]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    match both.is_empty() {
        true => "-".to_owned(),
        false => both.join(", "),
    }
}

fn ledger_row(turn: &TurnLedger) -> Vec<String> {
    let since = |at: Option<u64>| match at.zip(turn.speech_ended_ms) {
        Some((at, end)) => (i128::from(at) - i128::from(end)).to_string(),
        None => "-".to_owned(),
    };
    vec![
        turn.turn.0.to_string(),
        since(turn.endpoint_ms),
        since(turn.transcript_ms),
        since(turn.first_token_ms),
        since(turn.first_clause_ms),
        since(turn.first_audio_ms),
        since(turn.first_packet_ms),
        since(turn.holding_packet_ms),
        begun_early(turn),
        turn.retries.to_string(),
    ]
}
