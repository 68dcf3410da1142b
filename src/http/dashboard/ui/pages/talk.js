// Talking to an assistant: by the browser's microphone, or on the telephone.

import * as api from '../lib/api.js';
import { ask, field, h, replace, toast } from '../lib/dom.js';
import * as format from '../lib/format.js';
import { talk } from '../lib/talk.js';

const WHO = { user: 'You', bot: 'Assistant', system: 'System' };

// What is said, as it is said.
class Transcript {
  constructor() {
    this.finals = [];
    this.partials = {};
    this.element = h('ol', { class: 'talk', 'aria-label': 'Transcript', tabindex: 0 });
    this.stop = null;
  }

  async follow(id) {
    const load = async () => {
      const state = await api.get(`/ui/api/live/${id}`).catch(() => null);
      if (!state) return;
      this.finals = state.messages.map(({ role, message }) => [role, message]);
      this.partials = { user: state.partial ?? undefined };
      this.paint();
    };
    this.stop = api.follow('/ui/api/live/events', (event) => event.callId === id && this.event(event), load);
    await load();
  }

  event({ type, role, transcript, message }) {
    if (type === 'transcript') this.partials[role] = transcript;
    else if (type === 'message') {
      this.partials[role] = undefined;
      this.finals.push([role, message]);
    } else return;
    this.paint();
  }

  paint() {
    const open = Object.entries(this.partials).filter(([, text]) => text).map(([role, text]) => [role, text, 'partial']);
    replace(this.element, [...this.finals, ...open].map(([role, text, looks]) => h('li', { class: role },
      h('div', { class: 'who' }, h('b', {}, WHO[role])), h('div', { class: looks }, text))));
    this.element.scrollTop = this.element.scrollHeight;
  }
}

function meter(name) {
  const element = h('meter', { min: 0, max: 1, value: 0, 'aria-label': name });
  const shown = h('div', { class: 'level' }, h('span', { class: 'small muted' }, name), element);
  // It falls more slowly than it rises, so that words can be seen.
  return { shown, move(level) { element.value = Math.max(level, element.value * 0.85); } };
}

export function talkTo(assistant) {
  const name = assistant.name ?? assistant.id;
  const status = h('p', { role: 'status', class: 'muted' }, 'The browser asks for your microphone…');
  const wrong = h('p', { class: 'error', role: 'alert' });
  const [you, them] = [meter('You'), meter('Assistant')];
  const transcript = new Transcript();
  const details = h('a', { class: 'button', hidden: true }, 'Look at the call');
  const end = h('button', { class: 'danger' }, 'Hang up');
  const again = h('button', { class: 'primary', hidden: true }, 'Talk again');
  const dialog = h('dialog', { class: 'talking', 'aria-label': `Talk to ${name}` },
    h('div', { class: 'stack' }, h('h2', {}, `Talk to ${name}`), status, wrong, h('div', { class: 'levels' }, you.shown, them.shown), transcript.element,
      h('div', { class: 'row' }, end, again, details)));
  let hangUp = null;
  let closed = false;
  let since = 0;
  let timer = 0;
  const over = (words, error) => {
    clearInterval(timer);
    hangUp = null;
    status.textContent = words;
    wrong.textContent = error ?? '';
    you.move(-1);
    them.move(-1);
    end.textContent = 'Close';
    end.classList.remove('danger');
    again.hidden = false;
    again.textContent = dialog.dataset.call ? 'Talk again' : 'Try again';
    dialog.dataset.state = 'over';
  };
  const begin = async () => {
    dialog.dataset.state = 'asking';
    again.hidden = true;
    details.hidden = true;
    end.textContent = 'Hang up';
    end.classList.add('danger');
    wrong.textContent = '';
    try {
      hangUp = await talk(assistant.id, {
        ringing() { status.textContent = 'Ringing…'; },
        started(id) {
          since = Date.now();
          dialog.dataset.state = 'talking';
          dialog.dataset.call = id ?? '';
          timer = setInterval(() => { status.textContent = `Talking · ${format.duration(Date.now() - since)}`; }, 500);
          if (!id) return;
          details.href = `#/call/${id}`;
          transcript.stop?.();
          transcript.follow(id);
        },
        said: you.move,
        heard(level, playback) {
          them.move(level);
          dialog.dataset.audible = playback.audible.toFixed(2);
        },
        ended(reason) {
          details.hidden = !details.href;
          over(`The call is over: ${reason}`);
        },
      });
      if (closed) hangUp();
    } catch (error) {
      over('No call was made.', error.message);
    }
  };
  again.addEventListener('click', begin);
  end.addEventListener('click', () => (hangUp ? hangUp() : dialog.close()));
  details.addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => {
    closed = true;
    clearInterval(timer);
    hangUp?.();
    transcript.stop?.();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  begin();
}

export async function callMe(assistant) {
  const given = await ask(`${assistant.name ?? assistant.id} calls you`, 'Call me',
    field('Your number', h('input', { name: 'number', required: true, type: 'tel', autocomplete: 'tel' }), 'The assistant calls it through a trunk'),
    field('Trunk', h('input', { name: 'trunk' }), 'Not needed where there is only one'));
  if (!given) return;
  try {
    await api.post('/ui/api/dial', { assistant: assistant.id, number: given.number, trunk: given.trunk || null });
    location.hash = '#/live';
  } catch (error) {
    toast(error.message);
  }
}
