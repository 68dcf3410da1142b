// Numbers, and who answers each.

import * as api from '../lib/api.js';
import { ask, empty, field, h, head, panel, replace, toast } from '../lib/dom.js';

export async function numbers(root) {
  const configured = await api.get('/ui/api/configured');
  const made = await api.get('/phone-number?limit=1000').catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  const assistants = made && await api.get('/assistant?limit=1000').catch(() => []);
  const names = new Map((assistants ?? []).map((one) => [one.id, one.name ?? one.id]));
  const fixed = new Set(configured.numbers.map((one) => one.number));
  const choose = (chosen, done) => h('select', { 'aria-label': 'Assistant', onchange: (event) => done(event.target.value || null) },
    h('option', { value: '' }, 'Nobody'),
    [...names].map(([id, name]) => h('option', { value: id, selected: id === chosen }, name)));
  const change = async (id, assistantId) => {
    try {
      await api.patch(`/phone-number/${encodeURIComponent(id)}`, { assistantId });
      toast('Saved. The next call goes there.');
    } catch (error) { toast(error.message); }
  };
  const add = async () => {
    const given = await ask('New number', 'Add', field('Number', h('input', { name: 'number', required: true, maxlength: 40 }), 'E.164, such as +15551234567'));
    if (!given) return;
    try {
      await api.post('/phone-number', { provider: 'byo-phone-number', number: given.number });
      numbers(root);
    } catch (error) { toast(error.message); }
  };
  const answers = (one) => one.assistant ?? (one.mailbox ? `Mailbox ${one.mailbox}` : one.voicemailMenu ? 'Voicemail menu' : 'Nobody');
  const rows = [
    ...configured.numbers.map((one) => h('tr', {}, h('td', { class: 'mono' }, one.number), h('td', {}, answers(one)),
      h('td', {}, h('span', { class: 'pill' }, 'Configuration file')))),
    ...(made ?? []).filter((one) => !fixed.has(one.number)).map((one) => h('tr', {}, h('td', { class: 'mono' }, one.number ?? one.id),
      h('td', {}, choose(one.assistantId, (assistant) => change(one.id, assistant))), h('td', {}, h('span', { class: 'pill ok' }, 'API')))),
  ];
  replace(root, head('Numbers', 'Who answers what is dialled', made && h('button', { onclick: add }, 'New number')),
    rows.length ? panel('Numbers', null, h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Numbers, as a table' }, h('table', {},
      h('thead', {}, h('tr', {}, ['Number', 'Answered by', 'Set in'].map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, rows))))
      : h('div', { class: 'panel' }, empty('No numbers are assigned', 'Every call goes to the only assistant, or the demo.')));
}
