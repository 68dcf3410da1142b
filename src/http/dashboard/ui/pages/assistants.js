// Assistants: made, changed with a check at every key, and talked to.

import * as api from '../lib/api.js';
import { ask, empty, field, h, head, panel, replace, toast } from '../lib/dom.js';
import { callMe, talkTo } from './talk.js';

// What the server writes, and what it does not take back.
const OWN = ['id', 'orgId', 'createdAt', 'updatedAt', 'warnings', 'latestVersion'];
const NEW = {
  name: 'New assistant', firstMessage: 'Hello, how can I help you?',
  model: { messages: [{ role: 'system', content: 'You answer the telephone. Be brief.' }] },
};

const bare = (assistant) => Object.fromEntries(Object.entries(assistant).filter(([name]) => !OWN.includes(name)));

async function all() {
  const configured = Object.entries((await api.get('/ui/api/configured')).assistants)
    .map(([id, settings]) => ({ ...settings, id, pinned: true }));
  const made = await api.get('/assistant?limit=1000').catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  const known = new Set((made ?? []).map((one) => one.id));
  return {
    list: [...(made ?? []), ...configured.filter((one) => !known.has(one.id))],
    pinned: new Set(configured.map((one) => one.id)),
    changeable: made !== null,
  };
}

function prompt(settings) {
  return settings.model?.systemPrompt ?? settings.model?.messages?.find((one) => one.role === 'system')?.content ?? '';
}

function editor(root, assistant, state) {
  const readOnly = !state.changeable || state.pinned.has(assistant.id);
  const settings = bare(assistant);
  delete settings.pinned;
  const code = h('textarea', { class: 'code', spellcheck: 'false', readonly: readOnly, 'aria-describedby': 'mistakes' });
  const mistakes = h('div', { id: 'mistakes', role: 'status', 'aria-live': 'polite' });
  const save = h('button', { class: 'primary', disabled: true }, 'Save');
  const simple = {
    name: h('input', { value: settings.name ?? assistant.id ?? '', maxlength: 40, readonly: readOnly }),
    firstMessage: h('textarea', { rows: 2, readonly: readOnly }, settings.firstMessage ?? ''),
    prompt: h('textarea', { rows: 8, readonly: readOnly }, prompt(settings)),
  };
  let document = settings;
  let turn = 0;
  const check = async () => {
    const mine = (turn += 1);
    let read;
    try {
      read = JSON.parse(code.value);
    } catch (error) {
      save.disabled = true;
      return replace(mistakes, h('p', { class: 'error' }, `This is no JSON: ${error.message}`));
    }
    document = read;
    let found = { mistakes: [], warnings: [] };
    try {
      found = await api.post('/ui/api/assistants/check', read);
    } catch (error) {
      found.mistakes = [error.message];
    }
    if (mine !== turn) return null;
    save.disabled = readOnly || found.mistakes.length > 0;
    return replace(mistakes, found.mistakes.length
      ? h('ul', { class: 'mistakes' }, found.mistakes.map((one) => h('li', {}, one)))
      : h('p', { class: 'muted' }, readOnly ? 'Set in the configuration file: change it there.' : 'This is right.'),
    found.warnings.length > 0 && h('ul', { class: 'notice' },
      found.warnings.map((one) => h('li', {}, h('b', {}, `${one.field} `), one.message))));
  };
  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(check, 250); };
  const write = () => { code.value = JSON.stringify(document, null, 2); soon(); };
  simple.name.addEventListener('input', () => { document = { ...document, name: simple.name.value }; write(); });
  simple.firstMessage.addEventListener('input', () => { document = { ...document, firstMessage: simple.firstMessage.value }; write(); });
  simple.prompt.addEventListener('input', () => {
    const { systemPrompt, ...model } = document.model ?? {};
    const others = (model.messages ?? []).filter((one) => one.role !== 'system');
    document = { ...document, model: { ...model, messages: [{ role: 'system', content: simple.prompt.value }, ...others] } };
    write();
  });
  code.addEventListener('input', soon);
  save.addEventListener('click', async () => {
    save.disabled = true;
    try {
      if (assistant.id) await api.patch(`/assistant/${encodeURIComponent(assistant.id)}`, document);
      else await api.post('/assistant', document);
      toast('Saved. The next call has it.');
      location.hash = '#/assistants';
    } catch (error) {
      replace(mistakes, h('p', { class: 'error', role: 'alert' }, error.message));
      save.disabled = false;
    }
  });
  const drop = h('button', {
    class: 'danger',
    async onclick() {
      if (!await ask(`Delete ${document.name}?`, 'Delete', h('p', {}, 'Numbers that it answers go to nobody then.'))) return;
      try {
        await api.remove(`/assistant/${encodeURIComponent(assistant.id)}`);
        location.hash = '#/assistants';
      } catch (error) { toast(error.message); }
    },
  }, 'Delete');
  if (document.name === undefined && assistant.id) document = { name: assistant.id, ...document };
  write();
  replace(root, head(document.name ?? assistant.id, h('a', { href: '#/assistants' }, 'Assistants'),
    assistant.id && [h('button', { onclick: () => talkTo(assistant) }, 'Talk to it'), h('button', { onclick: () => callMe(assistant) }, 'Call me…')],
    !readOnly && assistant.id && drop, !readOnly && save),
  h('div', { class: 'editor' },
    panel('In short', null, h('div', { class: 'stack' }, field('Name', simple.name),
      field('First message', simple.firstMessage, 'What callers hear first'),
      field('Instructions', simple.prompt, 'What the model is told'))),
    panel('Everything', h('span', { class: 'small muted' }, 'JSON, in Vapi’s words'), h('div', { class: 'stack' },
      h('label', { class: 'field' }, 'Settings', code), mistakes))));
  return () => clearTimeout(waiting);
}

export async function assistants(root, { id }) {
  const state = await all();
  if (id === 'new') return editor(root, NEW, state);
  if (id) {
    const found = state.list.find((one) => one.id === id);
    if (!found) throw new Error(`There is no assistant ${id}.`);
    return editor(root, found, state);
  }
  replace(root, head('Assistants', 'Who answers', state.changeable && h('a', { class: 'button', href: '#/assistants/new' }, 'New assistant')),
    state.list.length ? h('div', { class: 'grid' }, state.list.map((one) => h('article', { class: 'panel' },
      h('header', {}, h('h2', {}, h('a', { href: `#/assistants/${encodeURIComponent(one.id)}` }, one.name ?? one.id)),
        state.pinned.has(one.id) && h('span', { class: 'pill' }, 'Configuration file')),
      h('p', {}, one.firstMessage ? `“${one.firstMessage}”` : h('span', { class: 'muted' }, 'Waits for the caller to speak')),
      h('p', { class: 'small muted' }, prompt(one).slice(0, 160)),
      one.warnings?.length > 0 && h('p', { class: 'notice small' }, `${one.warnings.length} warnings`),
      h('div', { class: 'row' },
        h('button', { 'aria-label': `Talk to it: ${one.name ?? one.id}`, onclick: () => talkTo(one) }, 'Talk to it'),
        h('button', { 'aria-label': `Call me…: ${one.name ?? one.id}`, onclick: () => callMe(one) }, 'Call me…'))))) : h('div', { class: 'panel' }, empty('No assistants', 'Make the first one.')));
  return null;
}
