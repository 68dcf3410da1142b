// Messages that callers left.

import * as api from '../lib/api.js';
import { ask, empty, h, head, replace, toast } from '../lib/dom.js';
import * as format from '../lib/format.js';

function card(message, load) {
  const act = async (work) => {
    try { await work(); await load(); } catch (error) { toast(error.message); }
  };
  const path = `/ui/api/voicemails/${message.id}`;
  return h('article', { class: 'panel' },
    h('header', {}, h('h2', {}, message.customer?.number ?? 'Withheld number'),
      h('span', { class: `pill ${message.state === 'new' ? 'live' : ''}` }, format.words(message.state))),
    h('p', { class: 'small muted' }, `${message.mailbox} · ${format.when(message.createdAt)} · ${format.duration(message.durationMs)}`),
    h('p', {}, message.transcript || h('span', { class: 'muted' }, 'No transcript')),
    h('audio', { controls: true, preload: 'none', src: `${path}/sound`, 'aria-label': 'Message' }),
    h('div', { class: 'row' },
      h('button', { onclick: () => act(() => api.patch(path, { state: message.state === 'new' ? 'saved' : 'new' })) },
        message.state === 'new' ? 'Mark as heard' : 'Mark as new'),
      message.callId && h('a', { class: 'button', href: `#/call/${message.callId}` }, 'Call'),
      h('a', { class: 'button', href: `${path}/sound`, download: `${message.id}.wav` }, 'Download'),
      h('button', {
        class: 'danger',
        onclick: async () => {
          if (await ask('Delete this message?', 'Delete', h('p', {}, 'It cannot be brought back.'))) act(() => api.remove(path));
        },
      }, 'Delete')));
}

export async function voicemails(root) {
  const load = async () => {
    const found = await api.get('/ui/api/voicemails');
    const fresh = found.filter((message) => message.state === 'new').length;
    replace(root, head('Voicemail', `${fresh} new of ${found.length}`),
      found.length ? h('div', { class: 'grid' }, found.map((message) => card(message, load)))
        : h('div', { class: 'panel' }, empty('No messages', 'What callers leave in a mailbox shows up here.')));
  };
  await load();
}
