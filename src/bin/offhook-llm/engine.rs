//! The decode loop: one step serves every call.
//!
//! ```text
//!   requests ──► waiting ──admit──► active: reading the prompt ──► writing the reply ──► ended
//!                   │ no room, or another   │      ▲ a portion      │  ▲ one token
//!                   │ call is just reading  │      └── per step     │  └─ per step
//!                   │ the same instructions └──────── cancelled ────┘
//! ```
//!
//! A request joins and leaves between two steps. What a call's sequence holds stays in the cache
//! when its reply ends or is cancelled, so that the next turn reads only what is new.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use offhook::engines::llm::{LlmEnd, LlmProtocol, LlmRequest, LlmResponse};
use offhook::engines::worker::{Job, Jobs, Responder};
use offhook::engines::{EngineError, Priority};
use offhook::ids::CallId;

use crate::cache::{Cache, Owner, Refusal, Sequence};
use crate::ending::Endings;
use crate::prompt::{Prompt, Reader};
use crate::reply::{Next, Reply};
use crate::request::{Active, Purpose, Request, count, milliseconds};
use crate::schedule::{self, StepSize, Want};

/// How often the server is told that a request is still worked on.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The engine.
pub(crate) struct Engine<'model> {
    model: &'model LlamaModel,
    context: LlamaContext<'model>,
    reader: Reader<'model>,
    endings: Endings,
    batch: LlamaBatch<'static>,
    cache: Cache,
    step_size: StepSize,
    waiting: VecDeque<Request>,
    active: Vec<Active>,
}

impl<'model> Engine<'model> {
    /// An engine whose `context` has room for what `cache` and `step_size` promise.
    pub(crate) fn new(
        model: &'model LlamaModel,
        context: LlamaContext<'model>,
        reader: Reader<'model>,
        cache: Cache,
        step_size: StepSize,
    ) -> Self {
        let largest = context.n_batch() as usize;
        let batch = LlamaBatch::new(largest, 1);
        let (waiting, active) = Default::default();
        Self {
            model,
            context,
            reader,
            endings: Endings::of(model),
            batch,
            cache,
            step_size,
            waiting,
            active,
        }
    }

    /// Serves until the server is gone.
    pub(crate) fn serve(mut self, jobs: &Jobs<LlmProtocol>) {
        loop {
            if self.is_idle() {
                match jobs.next() {
                    Some(job) => self.take(job),
                    None => return,
                }
            }
            while let Some(job) = jobs.try_next() {
                self.take(job);
            }
            if jobs.is_closed() {
                return;
            }
            self.step();
        }
    }

    /// Whether there is nothing to do until a request comes.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.active.is_empty()
    }

    /// Takes a request in. It is begun in the next step that has room for it.
    pub(crate) fn take(&mut self, job: Job<LlmProtocol>) {
        let Job {
            request,
            responder,
            priority,
            ..
        } = job;
        let ahead = priority != Priority::Waiting;
        let (call, prompt, purpose) = match request {
            LlmRequest::Release { call } => return self.release(call, responder),
            LlmRequest::Warm { messages } => {
                (None, self.reader.beginning(&messages), Purpose::Read)
            }
            LlmRequest::Prefill { call, messages } => {
                if self.has(call, |other| matches!(other.purpose, Purpose::Write { .. })) {
                    // A reply is being written already: nothing is left to be done ahead.
                    return responder.done(LlmResponse::End(LlmEnd::default()), &[]);
                }
                (
                    Some(call),
                    self.reader.conversation(&messages, 0, false),
                    Purpose::Read,
                )
            }
            LlmRequest::Generate {
                call,
                messages,
                settings,
                seed,
            } => {
                let reply = settings.max_tokens as usize;
                // Once the turn is over nobody asks whether it may be.
                let prompt = self.reader.conversation(&messages, reply, ahead);
                (Some(call), prompt, Purpose::Write { settings, seed })
            }
        };
        if let Some(call) = call {
            self.end_requests_of(call);
        }
        let now = Instant::now();
        match prompt {
            Err(error) => responder.fail(error),
            Ok(prompt) => {
                let owner = call.map_or(Owner::Warming, Owner::Call);
                let request = Request {
                    responder,
                    owner,
                    prompt,
                    purpose,
                    ahead,
                    received: now,
                    heard_of: now,
                };
                // Callers who wait go before work that is done ahead.
                let at = if ahead {
                    self.waiting.len()
                } else {
                    self.waiting.iter().take_while(|other| !other.ahead).count()
                };
                self.waiting.insert(at, request);
            }
        }
    }

    /// Serves everybody who wants something once.
    pub(crate) fn step(&mut self) {
        self.drop_cancelled();
        self.report_progress();
        self.admit();
        let wants: Vec<Want> = self.active.iter().map(Active::want).collect();
        let shares = schedule::share(&wants, self.step_size);
        let Some(portions) = self.fill_batch(&shares) else {
            return;
        };
        match self.context.decode(&mut self.batch) {
            Ok(()) => self.take_results(&portions),
            Err(error) => self.fail_step(&portions, &error),
        }
    }

    fn has(&self, call: CallId, fits: impl Fn(&Request) -> bool) -> bool {
        let active = self.active.iter().map(|active| &active.request);
        active
            .chain(&self.waiting)
            .any(|other| other.owner == Owner::Call(call) && fits(other))
    }

    /// A call has one conversation: a newer request makes an older one pointless.
    fn end_requests_of(&mut self, call: CallId) {
        let owner = Owner::Call(call);
        self.end_where(|request| request.owner == owner);
    }

    fn drop_cancelled(&mut self) {
        self.end_where(|request| request.responder.is_cancelled());
    }

    fn end_where(&mut self, ends: impl Fn(&Request) -> bool) {
        for active in self.active.extract_if(.., |active| ends(&active.request)) {
            end_sequence(&mut self.cache, &mut self.context, &active);
            active.request.responder.fail(EngineError::Cancelled);
        }
        let waiting = std::mem::take(&mut self.waiting);
        for request in waiting {
            if ends(&request) {
                request.responder.fail(EngineError::Cancelled);
            } else {
                self.waiting.push_back(request);
            }
        }
    }

    fn release(&mut self, call: CallId, responder: Responder<LlmProtocol>) {
        if let Some(sequence) = self.cache.release(call) {
            clear(&mut self.context, sequence, 0);
        }
        // What the call still has under way is cancelled by whoever asked for it.
        let owner = Owner::Call(call);
        for active in self
            .active
            .iter_mut()
            .filter(|active| active.request.owner == owner)
        {
            active.forget_at_end = true;
        }
        responder.done(LlmResponse::End(LlmEnd::default()), &[]);
    }

    fn report_progress(&mut self) {
        let now = Instant::now();
        let active = self.active.iter_mut().map(|active| &mut active.request);
        for request in active.chain(&mut self.waiting) {
            if now.duration_since(request.heard_of) >= PROGRESS_INTERVAL {
                request.heard_of = now;
                request.responder.progress();
            }
        }
    }

    /// Begins what there is room for.
    fn admit(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut full = false;
        for request in waiting {
            // Once there is no room for one, later ones do not overtake it.
            if full || self.awaits_prefix(&request) {
                self.waiting.push_back(request);
                continue;
            }
            let prompt = &request.prompt;
            let warm = request.owner == Owner::Warming && self.cache.has_prefix(&prompt.tokens);
            if warm {
                let end = request.end(None, prompt.tokens.len());
                request.responder.done(LlmResponse::End(end), &[]);
                continue;
            }
            let (unread, reply) = (request.unread(), request.reply_tokens());
            let admitted = self
                .cache
                .admit(request.owner, &prompt.tokens, unread, reply);
            match admitted {
                Ok(admission) => {
                    for &sequence in &admission.clear {
                        clear(&mut self.context, sequence, 0);
                    }
                    let cached = self.place(&admission);
                    let sequence = admission.sequence;
                    self.active.push(Active {
                        forget_at_end: request.owner == Owner::Warming,
                        request,
                        sequence,
                        cached,
                        read: cached,
                        reply: None,
                        first_token_ms: 0,
                    });
                }
                Err(Refusal::Full) => {
                    full = true;
                    self.waiting.push_back(request);
                }
                Err(Refusal::TooLong) => {
                    let detail = "the conversation is longer than the context".to_owned();
                    request.responder.fail(EngineError::BadInput { detail });
                }
            }
        }
    }

    /// Brings the cached beginning of a prompt into its sequence; returns how many tokens are
    /// there.
    fn place(&mut self, admission: &crate::cache::Admission) -> usize {
        let (to, cached) = (admission.sequence, admission.cached);
        if let Some(from) = admission.copy_from {
            copy(&mut self.context, from, to, cached);
        }
        if clear(&mut self.context, to, cached) {
            return cached;
        }
        // A model whose state cannot be cut: read all of it again.
        clear(&mut self.context, to, 0);
        self.cache.truncate(to);
        0
    }

    /// Whether somebody else is just reading the same instructions. They are then waited for
    /// here as well, and not read twice.
    fn awaits_prefix(&mut self, request: &Request) -> bool {
        let wanted = &request.prompt.tokens[..request.prompt.prefix];
        let reader = self.active.iter_mut().find(|active| {
            let prompt = &active.request.prompt;
            active.reads_prefix() && !wanted.is_empty() && prompt.tokens[..prompt.prefix] == *wanted
        });
        if let Some(reader) = reader {
            reader.request.ahead &= request.ahead;
            return true;
        }
        false
    }

    /// Puts each one's share into the batch. Returns, for each, its number of tokens and the
    /// place of the last one in the batch; `None` where nobody has anything to decode.
    fn fill_batch(&mut self, shares: &[usize]) -> Option<Vec<Portion>> {
        self.batch.clear();
        let room = self.context.n_batch() as usize;
        let mut portions = Vec::with_capacity(shares.len());
        for (active, &share) in self.active.iter().zip(shares) {
            let begin = self.cache.length(active.sequence);
            let free = room - placed(&self.batch);
            let tokens = active.next_tokens(share.min(free));
            let ends_prompt = active.read + tokens.len() == active.request.prompt.tokens.len();
            let wants_logits = active.reply.is_some() || (ends_prompt && active.writes());
            let count = tokens.len();
            let last_word = active.last_word(count);
            for (at, &token) in tokens.iter().enumerate() {
                let logits = wants_logits && at + 1 == count || last_word == Some(at);
                let position = i32::try_from(begin + at).unwrap_or(i32::MAX);
                // The batch has n_batch places, and `free` of them were left.
                let added = self
                    .batch
                    .add(token, position, &[id(active.sequence)], logits);
                debug_assert!(added.is_ok());
            }
            portions.push(Portion {
                count,
                last: self.batch.n_tokens() - 1,
            });
        }
        (self.batch.n_tokens() > 0).then_some(portions)
    }

    fn take_results(&mut self, portions: &[Portion]) {
        let mut ended: Vec<usize> = Vec::new();
        for (at, portion) in portions.iter().enumerate() {
            if portion.count == 0 {
                continue;
            }
            let active = &mut self.active[at];
            let tokens = active.next_tokens(portion.count).to_vec();
            if let Some(place) = active.last_word(portion.count) {
                let logits = self.context.get_logits_ith(portion.place(place));
                if let Some(probability) = self.endings.probability(logits) {
                    let ending = LlmResponse::SentenceEnds(probability);
                    active.request.responder.part(ending, &[]);
                }
            }
            self.cache.extend(active.sequence, &tokens);
            if active.reply.is_none() {
                active.read += tokens.len();
                keep_prefix(&mut self.cache, &mut self.context, active);
                if active.read < active.request.prompt.tokens.len() {
                    continue;
                }
            }
            if !self.advance(at, portion.last) {
                ended.push(at);
            }
        }
        for at in ended.into_iter().rev() {
            let active = self.active.remove(at);
            end_sequence(&mut self.cache, &mut self.context, &active);
            finish(active);
        }
    }

    /// Goes on with one whose prompt is read; whether there is more to come.
    fn advance(&mut self, at: usize, last: i32) -> bool {
        let active = &mut self.active[at];
        let Purpose::Write { settings, seed } = &active.request.purpose else {
            return false;
        };
        let reply = active.reply.get_or_insert_with(|| {
            active.first_token_ms = milliseconds(active.request.received);
            Reply::new(settings, *seed)
        });
        let next = reply.take_logits(self.context.get_logits_ith(last), &self.model.vocab());
        let (text, goes_on) = match next {
            Next::More(text) => (text, true),
            Next::End(text) => (text, false),
        };
        if !text.is_empty() {
            active.request.heard_of = Instant::now();
            active.request.responder.part(LlmResponse::Text(text), &[]);
        }
        goes_on
    }

    /// The step failed; whoever was in it is told, and reads everything again when asked next.
    fn fail_step(&mut self, portions: &[Portion], error: &DecodeError) {
        tracing::error!(%error, tokens = self.batch.n_tokens(), "decode failed");
        let failed: Vec<usize> = (0..portions.len())
            .filter(|&at| portions[at].count > 0)
            .collect();
        for at in failed.into_iter().rev() {
            let active = self.active.remove(at);
            clear(&mut self.context, active.sequence, 0);
            self.cache.forget(active.sequence);
            let detail = format!("decode: {error}");
            active
                .request
                .responder
                .fail(EngineError::Internal { detail });
        }
    }
}

/// What one request has in a batch.
#[derive(Clone, Copy, Debug)]
struct Portion {
    count: usize,
    /// Place of its last token in the batch.
    last: i32,
}

impl Portion {
    /// Place in the batch of its token number `at`.
    fn place(&self, at: usize) -> i32 {
        // A batch has fewer tokens than fit in an i32.
        self.last + 1 - self.count as i32 + at as i32
    }
}

/// Once the shared beginning was read, it is kept for other calls.
fn keep_prefix(cache: &mut Cache, context: &mut LlamaContext<'_>, active: &Active) {
    let Prompt { tokens, prefix, .. } = &active.request.prompt;
    if active.read != *prefix || *prefix == 0 || cache.has_prefix(&tokens[..*prefix]) {
        return;
    }
    if let Some(to) = cache.keep_prefix(active.sequence, *prefix) {
        clear(context, to, 0);
        copy(context, active.sequence, to, *prefix);
    }
}

fn end_sequence(cache: &mut Cache, context: &mut LlamaContext<'_>, active: &Active) {
    if active.forget_at_end {
        cache.forget(active.sequence);
        clear(context, active.sequence, 0);
    } else {
        cache.finish(active.sequence);
    }
}

fn finish(active: Active) {
    let Active {
        request,
        cached,
        reply,
        first_token_ms,
        ..
    } = active;
    let mut end = request.end(None, cached);
    if let Some(reply) = reply {
        match reply.finish() {
            Ok(finish) => end.finish = Some(finish),
            Err(error) => return request.responder.fail(error),
        }
        end.usage.completion_tokens = count(reply.tokens());
        end.usage.first_token_ms = first_token_ms;
    }
    request.responder.done(LlmResponse::End(end), &[]);
}

/// Removes what `sequence` holds from position `from` on; false where it can only be removed
/// whole.
fn clear(context: &mut LlamaContext<'_>, sequence: Sequence, from: usize) -> bool {
    let begin = u32::try_from(from).ok().filter(|&from| from > 0);
    let cleared = context.clear_kv_cache_seq(u32::try_from(sequence.0).ok(), begin, None);
    cleared.unwrap_or(false)
}

fn copy(context: &mut LlamaContext<'_>, from: Sequence, to: Sequence, length: usize) {
    let end = u32::try_from(length).ok();
    // Fails only for positions beyond i32, and a context of that size cannot be made.
    let copied = context.copy_kv_cache_seq(id(from), id(to), Some(0), end);
    debug_assert!(copied.is_ok());
}

fn id(sequence: Sequence) -> i32 {
    i32::try_from(sequence.0).unwrap_or(i32::MAX)
}

fn placed(batch: &LlamaBatch<'_>) -> usize {
    usize::try_from(batch.n_tokens()).unwrap_or(0)
}
