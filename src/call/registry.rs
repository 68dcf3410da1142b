//! Who is on the phone: admission, and the way to each live call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::RngExt;
use tokio::sync::{mpsc, oneshot, watch};

use super::admission::Place;
use super::command::{CallCommand, CallSnapshot, CommandRefusal, Reply};
use super::live::{Events, Listener, LiveCall, LiveEvent, Memory, MonitorKey, SoundTap, Watcher};
use crate::audio::Frame;
use crate::ids::{CallId, TrunkName};
use crate::record::CallStatus;
use crate::sip::endpoint::LegId;

/// Commands that a call may lag behind.
const COMMANDS: usize = 16;

/// Whom a line leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An assistant.
    Conversation,
    /// A mailbox, which needs no engine.
    Visit,
}

struct Entry {
    kind: Kind,
    snapshot: watch::Sender<CallSnapshot>,
    commands: mpsc::Sender<CallCommand>,
    /// Its legs that may be taken over, with their trunks.
    legs: Vec<(LegId, Option<TrunkName>)>,
    memory: Memory,
}

struct State {
    calls: HashMap<CallId, Entry>,
    events: Events,
    count: watch::Sender<usize>,
}

/// Why a name does not lead to one live call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No live call's id begins so.
    None,
    /// More than one does.
    Many,
}

/// The live calls. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    state: Arc<Mutex<State>>,
    /// The operator's limit, or less where the machine has room for less.
    capacity: Arc<AtomicUsize>,
    visits: usize,
}

impl Registry {
    /// A registry that admits `capacity` calls at once with assistants, and none with mailboxes.
    pub fn new(capacity: usize) -> Self {
        Self::with_visits(capacity, 0)
    }

    /// The same, with `visits` calls at once beside them that go to a mailbox.
    pub fn with_visits(capacity: usize, visits: usize) -> Self {
        let state = State {
            calls: HashMap::new(),
            events: Events::default(),
            count: watch::Sender::new(0),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            capacity: Arc::new(AtomicUsize::new(capacity)),
            visits,
        }
    }

    /// Admits no more than `calls` at once with assistants from now on, nor more than before.
    /// Returns how many that are.
    pub fn make_room_for(&self, calls: usize) -> usize {
        let before = self.capacity.fetch_min(calls, Ordering::Relaxed);
        before.min(calls)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change below is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line for a call with an assistant; `None` where all are in use. The line is free
    /// again when the returned [`Line`] is dropped.
    pub(super) fn admit(&self, snapshot: CallSnapshot) -> Option<Line> {
        self.admit_to(Kind::Conversation, snapshot)
    }

    /// The same for a call that goes to a mailbox.
    pub(super) fn admit_to(&self, kind: Kind, snapshot: CallSnapshot) -> Option<Line> {
        let most = match kind {
            Kind::Conversation => self.capacity.load(Ordering::Relaxed),
            Kind::Visit => self.visits,
        };
        let mut state = self.lock();
        let alike = state.calls.values().filter(|entry| entry.kind == kind);
        if alike.count() >= most {
            return None;
        }
        let id = snapshot.id;
        let (commands, queue) = mpsc::channel(COMMANDS);
        let memory = Memory::new(MonitorKey::from_random(rand::rng().random()));
        let sound = memory.tap();
        let call = snapshot.clone();
        state.events.publish(id, LiveEvent::StatusUpdate { call });
        let snapshot = watch::Sender::new(snapshot);
        let entry = Entry {
            kind,
            snapshot,
            commands,
            legs: Vec::new(),
            memory,
        };
        state.calls.insert(id, entry);
        state.count.send_replace(state.calls.len());
        Some(Line {
            registry: self.clone(),
            id,
            commands: queue,
            sound,
            _place: None,
        })
    }

    /// Whether nobody is on the phone.
    pub fn is_empty(&self) -> bool {
        self.lock().calls.is_empty()
    }

    /// Follows what happens in every call from now on.
    pub fn watch(&self) -> Watcher {
        self.lock().events.watch(None)
    }

    /// A live call with what was said so far, and what happens in it from there on.
    pub fn watch_call(&self, id: CallId) -> Option<(LiveCall, Watcher)> {
        let state = self.lock();
        let entry = state.calls.get(&id)?;
        let so_far = entry.memory.so_far(entry.snapshot.borrow().clone());
        Some((so_far, state.events.watch(Some(id))))
    }

    /// Listens in on a live call.
    pub fn listen(&self, id: CallId) -> Option<Listener> {
        Some(self.lock().calls.get(&id)?.memory.listen())
    }

    /// What opens this call, and only it, to whoever shows it.
    pub fn monitor_key(&self, id: CallId) -> Option<MonitorKey> {
        Some(self.lock().calls.get(&id)?.memory.key.clone())
    }

    /// Whether this opens the live call.
    pub fn is_monitor_key(&self, id: CallId, shown: &str) -> bool {
        let state = self.lock();
        let entry = state.calls.get(&id);
        entry.is_some_and(|entry| entry.memory.key.is(shown))
    }

    /// Every live call, the oldest first.
    pub fn snapshots(&self) -> Vec<CallSnapshot> {
        let state = self.lock();
        let calls = state.calls.values();
        let mut calls: Vec<_> = calls.map(|entry| entry.snapshot.borrow().clone()).collect();
        calls.sort_by_key(|call| (call.created_at, call.id));
        calls
    }

    /// The one live call whose id begins with `prefix`.
    ///
    /// # Errors
    /// Where there is none, or more than one.
    pub fn find(&self, prefix: &str) -> Result<CallId, Lookup> {
        let state = self.lock();
        let mut found = state
            .calls
            .keys()
            .filter(|id| !prefix.is_empty() && id.to_string().starts_with(prefix));
        match (found.next(), found.next()) {
            (None, _) => Err(Lookup::None),
            (Some(id), None) => Ok(*id),
            (Some(_), Some(_)) => Err(Lookup::Many),
        }
    }

    /// The call whose leg may be taken over by a call through this trunk.
    pub(super) fn owner(&self, leg: LegId, trunk: Option<&TrunkName>) -> Option<CallId> {
        let state = self.lock();
        let owns = |entry: &Entry| {
            let mut legs = entry.legs.iter();
            legs.any(|(own, of)| *own == leg && of.as_ref() == trunk)
        };
        let mut calls = state.calls.iter();
        calls.find(|(_, entry)| owns(entry)).map(|(id, _)| *id)
    }

    /// Sends a command; false where there is no such call or it is not listening.
    pub fn send(&self, id: CallId, command: CallCommand) -> bool {
        let state = self.lock();
        let entry = state.calls.get(&id);
        entry.is_some_and(|entry| entry.commands.try_send(command).is_ok())
    }

    /// Sends a command and waits for what the call says to it.
    ///
    /// # Errors
    /// [`CommandRefusal`] where it is not carried out; a call that ends meanwhile is gone.
    pub async fn ask(
        &self,
        id: CallId,
        command: impl FnOnce(Reply) -> CallCommand,
    ) -> Result<(), CommandRefusal> {
        let (reply, answer) = oneshot::channel();
        if !self.send(id, command(reply)) {
            return Err(CommandRefusal::Gone);
        }
        answer.await.unwrap_or(Err(CommandRefusal::Gone))
    }

    /// Follows a live call; the last value before the channel closes is how it ended.
    pub fn follow(&self, id: CallId) -> Option<watch::Receiver<CallSnapshot>> {
        let state = self.lock();
        state.calls.get(&id).map(|entry| entry.snapshot.subscribe())
    }

    /// Resolves when no call is left.
    pub async fn empty(&self) {
        let mut count = self.lock().count.subscribe();
        // The sender lives in the registry that is borrowed here.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

/// One of the lines that admission counts.
pub(super) struct Line {
    registry: Registry,
    id: CallId,
    commands: mpsc::Receiver<CallCommand>,
    sound: SoundTap,
    /// With its trunk and its assistant.
    _place: Option<Place>,
}

impl Line {
    /// The call's place with its trunk and assistant is free again when the line is.
    pub(super) fn occupies(&mut self, place: Place) {
        self._place = Some(place);
    }

    /// Changes what others see of the call.
    pub(super) fn show(&self, change: impl FnOnce(&mut CallSnapshot)) {
        let state = self.registry.lock();
        let Some(entry) = state.calls.get(&self.id) else {
            return;
        };
        let before = entry.snapshot.borrow().clone();
        entry.snapshot.send_modify(change);
        let call = entry.snapshot.borrow().clone();
        if call != before {
            state
                .events
                .publish(self.id, LiveEvent::StatusUpdate { call });
        }
    }

    /// Tells those who watch, now and later.
    pub(super) fn tell(&self, event: LiveEvent) {
        let mut state = self.registry.lock();
        if let Some(entry) = state.calls.get_mut(&self.id) {
            entry.memory.note(&event);
            state.events.publish(self.id, event);
        }
    }

    /// 20 ms for those who listen in.
    pub(super) fn pass(&self, heard: &Frame, spoken: &Frame) {
        self.sound.pass(heard, spoken);
    }

    /// Its legs that may be taken over by calls through the same trunk.
    pub(super) fn leads(&self, legs: Vec<(LegId, Option<TrunkName>)>) {
        if let Some(entry) = self.registry.lock().calls.get_mut(&self.id) {
            entry.legs = legs;
        }
    }

    /// The next command. Pending for ever when there can be none.
    pub(super) async fn command(&mut self) -> CallCommand {
        match self.commands.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        if let Some(entry) = state.calls.remove(&self.id) {
            let mut call = entry.snapshot.borrow().clone();
            // One that was never answered: nobody has said so yet.
            if call.status != CallStatus::Ended {
                call.status = CallStatus::Ended;
                state
                    .events
                    .publish(self.id, LiveEvent::StatusUpdate { call });
            }
        }
        state.count.send_replace(state.calls.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::live::{Next, TranscriptType};
    use crate::ids::{AssistantId, TurnNumber};
    use crate::record::{CallType, EndedBy, EndedReason, Message, Role};
    use time::OffsetDateTime;

    fn message(words: &str) -> Message {
        Message {
            role: Role::User,
            message: words.to_owned(),
            start_ms: 0,
            end_ms: 500,
            turn: TurnNumber(1),
            interrupted: false,
        }
    }

    fn snapshot(seed: u8) -> CallSnapshot {
        CallSnapshot {
            id: CallId::from_random([seed; 16]),
            call_type: CallType::InboundPhoneCall,
            assistant: AssistantId::new("demo"),
            status: CallStatus::Ringing,
            on_hold: false,
            recording_paused: false,
            from: String::new(),
            to: String::new(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            ended_reason: None,
        }
    }

    fn end() -> CallCommand {
        CallCommand::End {
            reason: EndedReason::ManuallyCanceled,
            by: EndedBy::Operator,
        }
    }

    #[tokio::test]
    async fn a_line_is_busy_until_its_call_is_over() {
        let registry = Registry::new(1);
        let mut line = registry.admit(snapshot(1)).expect("free");
        assert!(registry.admit(snapshot(2)).is_none());
        assert!(registry.send(snapshot(1).id, end()));
        assert!(matches!(line.command().await, CallCommand::End { .. }));
        drop(line);
        assert!(!registry.send(snapshot(1).id, end()));
        registry.empty().await;
        assert!(registry.admit(snapshot(2)).is_some());
    }

    #[test]
    fn mailboxes_have_lines_of_their_own() {
        let registry = Registry::with_visits(1, 1);
        let talking = registry.admit(snapshot(1)).expect("free");
        assert!(registry.admit(snapshot(2)).is_none());
        let visit = registry.admit_to(Kind::Visit, snapshot(2)).expect("free");
        assert!(registry.admit_to(Kind::Visit, snapshot(3)).is_none());
        drop(talking);
        assert!(registry.admit(snapshot(3)).is_some());
        drop(visit);
    }

    #[tokio::test]
    async fn a_call_is_found_by_the_beginning_of_its_id_where_that_is_enough() {
        let registry = Registry::new(3);
        let lines: Vec<Line> = [0x11, 0x12, 0x21]
            .map(|seed| registry.admit(snapshot(seed)).expect("free"))
            .into();
        assert_eq!(registry.find("21"), Ok(snapshot(0x21).id));
        assert_eq!(registry.find("1"), Err(Lookup::Many));
        assert_eq!(registry.find("3"), Err(Lookup::None));
        assert_eq!(registry.find(""), Err(Lookup::None));
        drop(lines);
        assert_eq!(registry.find("21"), Err(Lookup::None));
    }

    #[test]
    fn a_leg_is_taken_over_only_through_its_own_trunk() {
        let registry = Registry::new(2);
        let line = registry.admit(snapshot(1)).expect("free");
        let (carrier, other) = (TrunkName::new("carrier"), TrunkName::new("other"));
        line.leads(vec![(LegId(1), None), (LegId(2), Some(carrier.clone()))]);
        let id = Some(snapshot(1).id);
        assert_eq!(registry.owner(LegId(1), None), id);
        assert_eq!(registry.owner(LegId(2), Some(&carrier)), id);
        assert_eq!(registry.owner(LegId(1), Some(&carrier)), None);
        assert_eq!(registry.owner(LegId(2), Some(&other)), None);
        assert_eq!(registry.owner(LegId(2), None), None);
        assert_eq!(registry.owner(LegId(3), None), None);
        drop(line);
        assert_eq!(registry.owner(LegId(1), None), None);
    }

    #[tokio::test]
    async fn a_command_is_answered_or_its_call_is_gone() {
        let registry = Registry::new(1);
        let mut line = registry.admit(snapshot(1)).expect("free");
        let id = snapshot(1).id;
        let asking = registry.clone();
        let asked = tokio::spawn(async move { asking.ask(id, CallCommand::Hold).await });
        let CallCommand::Hold(reply) = line.command().await else {
            panic!("another command");
        };
        reply.send(Ok(())).expect("somebody waits");
        assert_eq!(asked.await.expect("no panic"), Ok(()));
        let asking = registry.clone();
        let asked = tokio::spawn(async move { asking.ask(id, CallCommand::Resume).await });
        drop(line.command().await);
        assert_eq!(
            asked.await.expect("no panic"),
            Err(CommandRefusal::Gone),
            "a call that says nothing is one that ended"
        );
        let mut following = registry.follow(id).expect("live");
        line.show(|call| call.ended_reason = Some(EndedReason::CustomerEndedCall));
        drop(line);
        while following.changed().await.is_ok() {}
        let ended = following.borrow().ended_reason;
        assert_eq!(ended, Some(EndedReason::CustomerEndedCall));
    }

    #[tokio::test]
    async fn whoever_comes_later_sees_what_was_said_and_a_slow_one_is_told_what_they_missed() {
        let registry = Registry::new(2);
        let mut everything = registry.watch();
        let line = registry.admit(snapshot(1)).expect("free");
        let other = registry.admit(snapshot(2)).expect("free");
        line.tell(LiveEvent::Message {
            transcript_type: TranscriptType::Final,
            message: message("Hello."),
        });
        let (so_far, mut watcher) = registry.watch_call(snapshot(1).id).expect("live");
        assert_eq!(so_far.messages, [message("Hello.")]);
        other.tell(LiveEvent::Muted { muted: true });
        line.show(|call| call.on_hold = true);
        line.show(|call| call.on_hold = true);
        let Some(Next::One(event)) = watcher.next().await else {
            panic!("an event");
        };
        assert!(
            matches!(&event.event, LiveEvent::StatusUpdate { call } if call.on_hold),
            "{event:?}"
        );
        for _ in 0..3000 {
            other.tell(LiveEvent::Muted { muted: false });
        }
        drop(line);
        assert!(matches!(everything.next().await, Some(Next::Missed(missed)) if missed > 1000));
        assert!(matches!(watcher.next().await, Some(Next::Missed(_))));
        let Some(Next::One(event)) = watcher.next().await else {
            panic!("the end of the call");
        };
        let LiveEvent::StatusUpdate { call } = &event.event else {
            panic!("{event:?}");
        };
        assert_eq!(call.status, CallStatus::Ended);
        assert!(registry.watch_call(snapshot(1).id).is_none());
    }

    #[tokio::test]
    async fn a_listener_hears_both_sides_and_nobody_is_heard_without_the_key() {
        let registry = Registry::new(2);
        let line = registry.admit(snapshot(1)).expect("free");
        let other = registry.admit(snapshot(2)).expect("free");
        let id = snapshot(1).id;
        let key = registry.monitor_key(id).expect("live");
        assert!(registry.is_monitor_key(id, key.expose()));
        assert!(!registry.is_monitor_key(snapshot(2).id, key.expose()));
        assert!(!registry.is_monitor_key(id, ""));
        assert_eq!(format!("{key:?}"), "[redacted]");
        let frame = |value| Frame::new([value; crate::audio::FRAME_SAMPLES]);
        line.pass(&frame(9), &frame(9));
        let mut listener = registry.listen(id).expect("live");
        line.pass(&frame(0x0102), &frame(-1));
        let Some(Next::One(sound)) = listener.next().await else {
            panic!("sound");
        };
        let stereo = sound.stereo();
        assert_eq!(stereo.len(), 640);
        assert_eq!(stereo[..4], [2, 1, 255, 255]);
        for _ in 0..500 {
            line.pass(&frame(1), &frame(1));
        }
        assert!(matches!(listener.next().await, Some(Next::Missed(missed)) if missed >= 372));
        drop(line);
        while let Some(Next::One(_)) = listener.next().await {}
        assert!(!registry.is_monitor_key(id, key.expose()), "over");
        drop(other);
    }
}
