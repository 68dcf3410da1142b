// How the telephone is doing: calls, minutes, outcomes, latencies, engines.

import * as api from '../lib/api.js';
import { bars, lines } from '../lib/chart.js';
import { empty, h, head, panel, replace } from '../lib/dom.js';
import * as format from '../lib/format.js';

const SPANS = [[6, '6 hours'], [24, '24 hours'], [168, '7 days'], [720, '30 days']];
const PARTS = {
  endpoint: 'End of turn noticed', transcript: 'Transcript', firstToken: 'First token',
  firstClause: 'First clause', firstAudio: 'First audio', voiceToVoice: 'Voice to voice',
};

function tile(label, value, more) {
  return h('div', { class: 'panel tile' }, h('div', { class: 'label' }, label),
    h('div', { class: 'value' }, value), more && h('div', { class: 'more' }, more));
}

function outcomes(list) {
  const most = Math.max(1, ...list.map((one) => one.count));
  return h('div', { class: 'bars' }, list.slice(0, 10).map(({ reason, count }) => h('div', { class: 'bar' },
    h('a', { href: `#/history?outcome=${reason}` }, format.words(reason)),
    h('meter', { min: 0, max: most, value: count, 'aria-label': `${format.words(reason)}: ${count}` }),
    h('span', { class: 'num' }, format.number(count)))));
}

function latency(list) {
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Latency by part' }, h('table', {},
    h('thead', {}, h('tr', {}, h('th', {}, 'From the end of speech to'),
      ['p50', 'p95', 'max'].map((name) => h('th', { class: 'right' }, name)))),
    h('tbody', {}, list.map((part) => h('tr', {}, h('td', {}, PARTS[part.part]),
      [part.p50, part.p95, part.max].map((value) => h('td', { class: 'right num' }, format.ms(value))))))));
}

function parts(all) {
  return Object.entries(all).filter(([, part]) => part.status !== 'ready').map(([name, part]) => h('p', {
    class: `notice ${part.status === 'failed' ? 'bad' : ''}`, role: 'status',
  }, h('b', {}, `${name}: ${part.status}. `), part.reason ?? ''));
}

export async function overview(root, { search }) {
  const hours = Number(search.get('hours')) || 24;
  const load = async () => {
    const found = await api.get(`/ui/api/overview?hours=${hours}`);
    const label = found.bucketSeconds >= 86400 ? format.day : format.clock;
    const labels = found.buckets.map((bucket) => label(bucket.at));
    const of = (name, color, key) => ({ name, color, values: found.buckets.map((bucket) => bucket[key]) });
    const voice = found.latency.find((part) => part.part === 'voiceToVoice');
    const busy = (name, color, key) => ({ name, color, values: found.load.map((one) => one[key]) });
    replace(root,
      head('Overview', `Since ${format.when(found.since)}`, h('div', { class: 'row', role: 'group', 'aria-label': 'Time' },
        SPANS.map(([span, name]) => h('button', {
          'aria-pressed': String(span === hours), onclick() { location.hash = `#/overview?hours=${span}`; },
        }, name)))),
      h('div', { class: 'stack' }, parts(found.parts)),
      h('div', { class: 'tiles' },
        tile('Live now', h('a', { href: '#/live' }, found.live)),
        tile('Calls', format.number(found.totals.calls), `${format.number(found.totals.answered)} answered`),
        tile('Minutes', format.number(found.totals.minutes), found.totals.meanSeconds !== null && `${format.duration(found.totals.meanSeconds * 1000)} a call`),
        tile('Voice to voice, p50', format.ms(voice.p50), `from ${format.count(found.totals.turns, 'turn')}`),
        tile('Voice to voice, p95', format.ms(voice.p95))),
      h('div', { class: 'grid' },
        panel('Calls', null, bars('Calls', labels, [of('inbound', 'a', 'inbound'), of('outbound', 'b', 'outbound')])),
        panel('Minutes', null, bars('Minutes', labels, [of('minutes', 'a', 'minutes')], 'min')),
        panel('Voice to voice', null, voice.p50 === null
          ? empty('No answer was measured', 'From the end of what a caller says to the first sound of the answer.')
          : lines('Voice to voice', labels, [of('p50', 'a', 'p50'), of('p95', 'b', 'p95')], 'ms')),
        panel('Engines at work', null, found.load.length
          ? lines('Requests in the engines', found.load.map((one) => format.clock(one.at)),
            [busy('hearing', 'a', 'stt'), busy('thinking', 'b', 'llm'), busy('speaking', 'c', 'tts')])
          : empty('Nothing measured yet', 'The first figures come within seconds.')),
        panel('Outcomes', null, found.outcomes.length ? outcomes(found.outcomes) : empty('No call has ended yet', 'Dial a number of this server.')),
        panel('Latency', null, latency(found.latency))));
  };
  await load();
  const timer = setInterval(() => document.hidden || root.querySelector('details[open]') || load().catch(() => {}), 15000);
  return () => clearInterval(timer);
}
