// Calls in progress: what is said as it is said, and what can be done.

import * as api from '../lib/api.js';
import { ask, empty, field, h, head, replace, toast } from '../lib/dom.js';
import * as format from '../lib/format.js';
import { listenIn } from '../lib/listen.js';

const WHO = { user: 'Caller', bot: 'Assistant', system: 'System' };

async function tell(id, message, done) {
  try {
    await api.post(`/ui/api/live/${id}/control`, message);
    if (done) toast(done);
    return true;
  } catch (error) {
    toast(error.message);
    return false;
  }
}

function line(role, text, partial) {
  return h('li', { class: role }, h('div', { class: 'who' }, h('b', {}, WHO[role])),
    h('div', { class: partial ? 'partial' : '' }, text));
}

class Card {
  constructor(state) {
    this.id = state.call.id;
    this.partials = {};
    this.stop = null;
    this.status = h('span', { class: 'pill live' });
    this.time = h('span', { class: 'num muted' });
    this.talk = h('ol', { class: 'talk', 'aria-label': 'Transcript', tabindex: 0 });
    this.news = h('div', { class: 'talk', 'aria-hidden': 'true' });
    this.user = h('span', { class: 'role' }, 'Caller speaks');
    this.bot = h('span', { class: 'role' }, 'Assistant speaks');
    this.latency = h('span', { class: 'num' });
    this.listenButton = h('button', { 'aria-pressed': 'false', onclick: () => this.listen() }, 'Listen in');
    this.muteButton = h('button', { 'aria-pressed': 'false', onclick: () => this.mute() }, 'Mute assistant');
    this.holdButton = h('button', { 'aria-pressed': 'false', onclick: () => this.hold() }, 'Hold');
    this.heard = h('span', { class: 'small muted', 'data-heard': '0' });
    const words = h('input', { 'aria-label': 'Something for the assistant to say', placeholder: 'Have the assistant say…', maxlength: 2000, required: true });
    this.element = h('article', { class: 'panel live-call', 'data-call': this.id, 'aria-label': `Call with ${format.other(state.call)}` },
      h('header', {}, h('div', {}, h('h2', {}, format.other(state.call)),
        h('div', { class: 'small muted' }, `${state.call.type === 'outboundPhoneCall' ? 'Outbound' : 'Inbound'} · ${state.call.assistant || 'mailbox'} · ${format.party(state.call.to)}`)),
      h('div', { class: 'row' }, this.status, this.time)),
      h('div', { class: 'speaks' }, this.user, this.bot, this.latency),
      this.talk,
      h('form', {
        class: 'say',
        onsubmit: async (event) => {
          event.preventDefault();
          if (await tell(this.id, { type: 'say', content: words.value })) words.value = '';
        },
      }, words, h('button', { class: 'primary' }, 'Say')),
      h('div', { class: 'row' }, this.listenButton, this.muteButton, this.holdButton,
        h('button', { onclick: () => this.note() }, 'Tell the model…'),
        h('button', { onclick: () => this.transfer() }, 'Transfer…'),
        h('button', { class: 'danger', onclick: () => tell(this.id, { type: 'end-call' }) }, 'End call'),
        h('a', { class: 'small', href: `#/call/${this.id}` }, 'Details'), this.heard));
    this.load(state);
  }

  load(state) {
    this.partials = { user: state.partial ?? undefined };
    this.finals = state.messages.map(({ role, message }) => line(role, message));
    this.seen(state.call);
    this.muted(state.muted);
    this.speaks('user', state.userSpeaks);
    this.speaks('bot', state.botSpeaks);
    state.turns.forEach((ledger) => this.turn(ledger));
    this.paint();
  }

  paint() {
    const below = this.talk.scrollHeight - this.talk.scrollTop - this.talk.clientHeight < 40;
    const open = ['user', 'bot'].filter((role) => this.partials[role]).map((role) => line(role, this.partials[role], true));
    const lines = [...this.finals, ...open];
    replace(this.talk, lines.length ? lines : h('li', {}, h('div', { class: 'who' }), h('span', { class: 'muted' }, 'Nothing said yet')));
    if (below) this.talk.scrollTop = this.talk.scrollHeight;
  }

  seen(call) {
    this.call = call;
    this.status.textContent = call.onHold ? 'On hold' : format.words(call.status);
    this.holdButton.setAttribute('aria-pressed', String(call.onHold));
    this.holdButton.textContent = call.onHold ? 'Take back' : 'Hold';
    this.tick();
  }

  tick() {
    this.time.textContent = format.duration(Date.now() - new Date(this.call.createdAt));
  }

  muted(muted) {
    this.isMuted = muted;
    this.muteButton.setAttribute('aria-pressed', String(muted));
    this.muteButton.textContent = muted ? 'Unmute assistant' : 'Mute assistant';
  }

  speaks(role, speaks) {
    (role === 'user' ? this.user : this.bot).classList.toggle('on', speaks);
  }

  turn(ledger) {
    if (ledger.firstPacketMs == null || ledger.speechEndedMs == null) return;
    this.latency.textContent = `last answer after ${format.ms(ledger.firstPacketMs - ledger.speechEndedMs)}`;
  }

  event(event) {
    if (event.type === 'status-update') this.seen(event.call);
    else if (event.type === 'speech-update') this.speaks(event.role, event.status === 'started');
    else if (event.type === 'muted') this.muted(event.muted);
    else if (event.type === 'turn') this.turn(event.ledger);
    else if (event.type === 'transcript') {
      this.partials[event.role] = event.transcript;
      this.paint();
    } else if (event.type === 'message') {
      this.partials[event.role] = undefined;
      this.finals.push(line(event.role, event.message));
      if (this.finals.length > 300) this.finals.shift();
      this.paint();
    }
  }

  mute() {
    tell(this.id, { type: 'control', control: this.isMuted ? 'unmute-assistant' : 'mute-assistant' });
  }

  hold() {
    tell(this.id, { type: 'control', control: this.call.onHold ? 'resume' : 'hold' });
  }

  async note() {
    const text = h('textarea', { name: 'text', required: true, maxlength: 2000, rows: 4 });
    const given = await ask('Tell the model something', 'Tell it', field('What it shall know (the caller does not hear it)', text),
      h('label', { class: 'row' }, h('input', { type: 'checkbox', name: 'respond' }), 'The assistant answers it now'));
    if (!given) return;
    tell(this.id, {
      type: 'add-message', message: { role: 'system', content: given.text }, triggerResponseEnabled: given.respond === 'on',
    }, 'The model knows it now.');
  }

  async transfer() {
    const given = await ask('Transfer the caller', 'Transfer',
      field('Number or SIP address', h('input', { name: 'to', required: true, maxlength: 200 }), 'As the trunk’s destinations allow'),
      h('label', { class: 'row' }, h('input', { type: 'checkbox', name: 'warm' }), 'Speak to the person called first'));
    if (!given) return;
    const transferPlan = { mode: given.warm === 'on' ? 'warm-transfer-say-message' : 'blind-transfer' };
    const destination = given.to.startsWith('sip:')
      ? { type: 'sip', sipUri: given.to, transferPlan } : { type: 'number', number: given.to, transferPlan };
    tell(this.id, { type: 'transfer', destination }, 'The caller is being passed on.');
  }

  listen() {
    if (this.stop) {
      this.stop();
      return;
    }
    this.listenButton.setAttribute('aria-pressed', 'true');
    this.listenButton.textContent = 'Stop listening';
    this.stop = listenIn(this.id, ({ playing, seconds, closed }) => {
      this.heard.dataset.heard = seconds.toFixed(2);
      this.heard.dataset.playing = String(playing);
      if (!closed) return;
      this.stop = null;
      this.listenButton.setAttribute('aria-pressed', 'false');
      this.listenButton.textContent = 'Listen in';
    });
  }

  close() {
    this.stop?.();
    this.element.remove();
  }
}

export async function live(root) {
  const cards = new Map();
  const list = h('div', { class: 'grid' });
  const nobody = h('div', { class: 'panel' }, empty('Nobody is on the phone', 'Calls show up here the moment they come in.'));
  const show = () => { nobody.hidden = cards.size > 0; };
  const add = (state) => {
    const card = new Card(state);
    cards.set(card.id, card);
    list.append(card.element);
    show();
  };
  const gone = (id, reason) => {
    const card = cards.get(id);
    if (!card) return;
    card.close();
    cards.delete(id);
    toast(`The call with ${format.other(card.call)} is over${reason ? `: ${format.words(reason).toLowerCase()}` : ''}.`);
    show();
  };
  const load = async () => {
    const calls = await api.get('/ui/api/live');
    const ids = new Set(calls.map(({ call }) => call.id));
    [...cards.keys()].filter((id) => !ids.has(id)).forEach((id) => gone(id));
    calls.forEach((state) => (cards.has(state.call.id) ? cards.get(state.call.id).load(state) : add(state)));
    show();
  };
  replace(root, head('Live calls', 'Transcripts move as people speak'), nobody, list);
  const stop = api.follow('/ui/api/live/events', async (event) => {
    if (event.type === 'status-update' && event.call.status === 'ended') gone(event.callId, event.call.endedReason);
    else if (cards.has(event.callId)) cards.get(event.callId).event(event);
    else if (event.type === 'status-update') {
      add({ call: event.call, messages: [], turns: [], partial: null, userSpeaks: false, botSpeaks: false, muted: false });
    }
  }, () => load().catch(() => {}));
  await load();
  const timer = setInterval(() => cards.forEach((card) => card.tick()), 1000);
  return () => {
    clearInterval(timer);
    stop();
    cards.forEach((card) => card.close());
  };
}
