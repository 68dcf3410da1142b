// Every call that was kept: searched, filtered, a page at a time, exported.

import * as api from '../lib/api.js';
import { empty, failure, field, h, head, replace } from '../lib/dom.js';
import * as format from '../lib/format.js';

const OUTCOMES = ['customer-ended-call', 'assistant-ended-call', 'assistant-said-end-call-phrase', 'assistant-forwarded-call',
  'customer-canceled', 'silence-timed-out', 'exceeded-max-duration', 'mailbox-ended-call', 'manually-canceled', 'voicemail',
  'customer-busy', 'customer-did-not-answer', 'call-rejected', 'admission-refused', 'service-unavailable', 'incompatible-media',
  'media-timed-out', 'signalling-timed-out', 'server-shutdown', 'server-crashed', 'internal-error',
  'sip-gateway-failed-to-connect-call', 'sip-outbound-number-invalid', 'sip-outbound-forbidden', 'sip-outbound-redirect-refused',
  'sip-outbound-server-failed', 'assistant-request-failed', 'assistant-request-returned-error',
  'assistant-request-returned-forwarding-phone-number', 'schedule-expired'];

function row(call) {
  return h('tr', { class: 'link' },
    h('td', {}, h('a', { href: `#/call/${call.id}` }, format.when(call.createdAt))),
    h('td', {}, format.other(call), h('div', { class: 'small muted' }, call.type === 'outboundPhoneCall' ? 'Outbound' : 'Inbound')),
    h('td', {}, call.assistant || (call.mailbox ? `Mailbox ${call.mailbox}` : '–')),
    h('td', {}, h('span', { class: `pill ${format.outcomeClass(call.endedReason)}` }, format.words(call.endedReason ?? call.status))),
    h('td', { class: 'right num', 'data-label': 'Talked' }, format.talked(call)));
}

const day = (value, add) => (value ? new Date(new Date(`${value}T00:00`).getTime() + add * 864e5).toISOString() : '');

export async function history(root, { search }) {
  const input = (name, attributes) => h('input', { name, value: search.get(name) ?? '', maxlength: 200, ...attributes });
  const option = (value, text, chosen) => h('option', { value, selected: value === chosen }, text);
  // What the address asks for can be chosen before it is known to be there.
  const given = (name) => [search.get(name)].filter(Boolean);
  const assistant = h('select', { name: 'assistant' }, option('', 'Any', ''),
    given('assistant').map((name) => option(name, name, name)));
  const outcome = h('select', { name: 'outcome' }, option('', 'Any', ''),
    [...new Set([...OUTCOMES, ...given('outcome')])].map((name) => option(name, format.words(name), search.get('outcome'))));
  const body = h('tbody');
  const more = h('button', { hidden: true, onclick: () => load(false) }, 'Older calls');
  const nothing = h('div', { hidden: true });
  const trouble = h('div');
  let next = null;
  const wanted = () => {
    const values = Object.fromEntries(new FormData(form));
    return { ...values, from: day(values.from, 0), until: day(values.until, 1) };
  };
  let turn = 0;
  const load = async (first) => {
    const mine = (turn += 1);
    let found;
    try {
      found = await api.get(`/ui/api/calls?${api.query({ ...wanted(), after: first ? '' : next })}`);
    } catch (error) {
      if (mine === turn && error.status !== 401) replace(trouble, failure(error, () => load(first)));
      return;
    }
    // Somebody typed on.
    if (mine !== turn) return;
    trouble.replaceChildren();
    if (first) {
      body.replaceChildren();
      const chosen = assistant.value;
      const names = [...new Set([...found.assistants.filter(Boolean), ...[chosen].filter(Boolean)])];
      replace(assistant, option('', 'Any', ''), names.map((name) => option(name, name, chosen)));
    }
    found.calls.forEach((call) => body.append(row(call)));
    next = found.next;
    more.hidden = !next;
    nothing.hidden = body.children.length > 0;
    table.hidden = body.children.length === 0;
  };
  let waiting = 0;
  const form = h('form', {
    class: 'filters', role: 'search', 'aria-label': 'Search calls',
    onsubmit(event) { event.preventDefault(); load(true); },
    oninput() { clearTimeout(waiting); waiting = setTimeout(() => load(true), 300); },
  },
  field('Number', input('number', { placeholder: '+1555…', type: 'search' })),
  field('Words', input('text', { placeholder: 'said in the call', type: 'search' })),
  field('Assistant', assistant), field('Outcome', outcome),
  field('From', input('from', { type: 'date' })), field('To', input('until', { type: 'date' })));
  const file = (kind) => h('button', {
    onclick() {
      const link = h('a', { href: `/ui/api/calls/export?${api.query({ ...wanted(), format: kind })}`, download: '' });
      link.click();
    },
  }, `Export ${kind.toUpperCase()}`);
  const table = h('div', { class: 'panel scroll', hidden: true }, h('table', { class: 'cards' },
    h('thead', {}, h('tr', {}, ['When', 'Who', 'Assistant', 'Outcome'].map((name) => h('th', { scope: 'col' }, name)),
      h('th', { class: 'right', scope: 'col' }, 'Talked'))), body));
  nothing.append(h('div', { class: 'panel' }, empty('No calls found', 'Change the search, or wait for the first call.')));
  replace(root, head('History', 'Every call that was kept', file('csv'), file('json')), form, trouble, table, nothing,
    h('p', { class: 'empty' }, more));
  await load(true);
  return () => clearTimeout(waiting);
}
