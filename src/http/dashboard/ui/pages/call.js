// One call: what was heard, said and how fast, the same moment in all of them.

import * as api from '../lib/api.js';
import { empty, h, head, panel, replace, s } from '../lib/dom.js';
import * as format from '../lib/format.js';
import { draw, loudness } from '../lib/wave.js';

const WHO = { user: 'Caller', bot: 'Assistant', system: 'System' };
// Larger recordings are played, but their waveform is not drawn.
const LARGEST_WAVE = 64e6;

const PARTS = [
  ['speechEndedMs', 'endpointMs', 'c', 'end of turn noticed'],
  ['endpointMs', 'firstTokenMs', 'b', 'first token'],
  ['firstTokenMs', 'firstPacketMs', 'a', 'first sound'],
];

function talk(messages, seek) {
  return messages.map((message) => h('li', { class: message.role, 'data-start': message.startMs, 'data-end': message.endMs },
    h('div', { class: 'who' }, h('b', {}, WHO[message.role]), format.duration(message.startMs)),
    h('div', {}, h('button', { class: 'line', onclick: () => seek(message.startMs / 1000) }, message.message),
      message.interrupted && h('span', { class: 'small muted' }, ' — interrupted'))));
}

// Each turn as a stretch on the call's clock, from the end of speech to the first sound of the answer.
function timeline(turns, seconds, seek) {
  const wide = 1000;
  const known = turns.filter((turn) => turn.speechEndedMs != null && turn.firstPacketMs != null);
  const x = (ms) => (ms / 1000 / seconds) * wide;
  const cursor = s('line', { class: 'cursor', x1: 0, x2: 0, y1: 0, y2: 56 });
  const shapes = known.flatMap((turn) => [
    ...PARTS.map(([from, to, color, name]) => {
      if (turn[from] == null || turn[to] == null) return null;
      return s('rect', { class: color, x: x(turn[from]), y: 18, width: Math.max(1.5, x(turn[to]) - x(turn[from])), height: 20 },
        s('title', {}, `${name}: ${turn[to] - turn[from]} ms`));
    }),
    s('text', { x: x(turn.speechEndedMs), y: 12 }, `${turn.firstPacketMs - turn.speechEndedMs}`),
  ]);
  const drawn = s('svg', {
    class: 'timeline', viewBox: '0 0 1000 56', role: 'img', 'aria-label': `Latency of ${known.length} answers, in ms, on the call’s time line`,
    onclick: (event) => seek(((event.clientX - drawn.getBoundingClientRect().left) / drawn.clientWidth) * seconds),
  }, s('line', { class: 'axis', x1: 0, x2: wide, y1: 38, y2: 38, stroke: 'currentColor', 'stroke-opacity': 0.25 }), shapes, cursor);
  return {
    element: h('div', {}, drawn, h('div', { class: 'legend' },
      h('span', {}, h('i', { class: 'bg-c' }), 'noticing the end of the turn'),
      h('span', {}, h('i', { class: 'bg-b' }), 'thinking'), h('span', {}, h('i', { class: 'bg-a' }), 'speaking'))),
    move(at) { const place = x(at * 1000); cursor.setAttribute('x1', place); cursor.setAttribute('x2', place); },
  };
}

function player(call, id) {
  const audio = h('audio', { controls: true, preload: 'metadata', src: `/ui/api/calls/${id}/recording`, 'aria-label': 'Recording' });
  const seconds = call.startedAt && call.endedAt
    ? Math.max(1, (new Date(call.endedAt) - new Date(call.startedAt)) / 1000) : 1;
  const seek = (at) => {
    audio.currentTime = Math.max(0, at);
    audio.play().catch(() => {});
  };
  const lines = h('ol', { class: 'talk' }, talk(call.messages, seek));
  const turns = timeline(call.turns, seconds, seek);
  const canvas = h('canvas', { class: 'wave', role: 'img', 'aria-label': 'Waveform: caller above, assistant below' });
  let wave = null;
  const length = () => (Number.isFinite(audio.duration) ? audio.duration : seconds);
  const move = () => {
    const at = audio.currentTime;
    if (wave) draw(canvas, wave.peaks, at / length());
    turns.move(at);
    for (const line of lines.children) {
      const now = !audio.paused && at * 1000 >= line.dataset.start && at * 1000 <= line.dataset.end;
      if (now && !line.classList.contains('now')) line.scrollIntoView({ block: 'nearest' });
      line.classList.toggle('now', now);
    }
  };
  ['timeupdate', 'seeked', 'pause', 'loadedmetadata'].forEach((name) => audio.addEventListener(name, move));
  canvas.addEventListener('click', (event) => seek((event.offsetX / canvas.clientWidth) * length()));
  const resized = () => move();
  addEventListener('resize', resized);
  (async () => {
    if (!call.recording) return;
    const answer = await fetch(audio.src);
    if (!answer.ok || Number(answer.headers.get('content-length')) > LARGEST_WAVE) return canvas.remove();
    wave = loudness(await answer.arrayBuffer(), 600);
    move();
  })().catch(() => canvas.remove());
  const element = panel('Recording and transcript', call.recording && h('span', { class: 'small muted' }, 'Click a line, the waveform or an answer to go there'),
    h('div', { class: 'player' },
      call.recording ? [canvas, turns.element, audio] : [h('p', { class: 'muted' }, 'This call was not recorded.'), turns.element],
      call.messages.length ? lines : empty('Nothing was said', '')));
  return { element, leave() { audio.pause(); removeEventListener('resize', resized); } };
}

function ledger(turns) {
  const since = (turn, at) => (turn.speechEndedMs == null || turn[at] == null ? '–' : turn[at] - turn.speechEndedMs);
  const columns = [['endpointMs', 'End of turn'], ['transcriptMs', 'Transcript'], ['firstTokenMs', 'First token'],
    ['firstClauseMs', 'First clause'], ['firstAudioMs', 'First audio'], ['firstPacketMs', 'First packet']];
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Ledger, as a table' }, h('table', { class: 'small' },
    h('thead', {}, h('tr', {}, h('th', {}, 'Turn'), h('th', {}, 'Speech ended'),
      columns.map(([, name]) => h('th', { class: 'right' }, name)))),
    h('tbody', {}, turns.map((turn) => h('tr', {}, h('td', { class: 'num' }, turn.turn),
      h('td', { class: 'num' }, turn.speechEndedMs == null ? '–' : format.duration(turn.speechEndedMs)),
      columns.map(([key]) => h('td', { class: 'right num' }, since(turn, key))))))));
}

function quality(found) {
  if (!found) return h('p', { class: 'muted' }, 'Not measured: the call was not answered, or no media came.');
  const columns = [['heard', 'Caller to us'], ['spoken', 'Us to caller']].filter(([key]) => found[key]);
  const rows = [['MOS', (one) => one.mos], ['Packets', (one) => one.packets], ['Lost', (one) => one.lost], ['Late', (one) => one.late],
    ['Jitter', (one) => `${one.jitterMs} ms`], ['Delay', (one) => `${one.delayMs} ms`],
    ['Concealed', (one) => (one.concealedMs == null ? '–' : `${one.concealedMs} ms`)]];
  return h('table', { class: 'small' },
    h('thead', {}, h('tr', {}, h('th', {}, 'Measure'), columns.map(([, name]) => h('th', { class: 'right' }, name)))),
    h('tbody', {}, rows.map(([name, value]) => h('tr', {}, h('td', {}, name),
      columns.map(([key]) => h('td', { class: 'right num' }, value(found[key])))))));
}

function ladder(messages, leftOut) {
  if (!messages.length) return empty('No SIP messages were kept', 'recording.signalling keeps them.');
  return h('div', { class: 'ladder' }, messages.map((message) => h('details', {},
    h('summary', {}, h('span', { class: 'small muted num' }, format.exact(message.at)),
      h('span', { 'aria-label': message.direction }, message.direction === 'received' ? '→' : '←'),
      h('span', { class: 'mono' }, message.text?.split('\r\n')[0] ?? '(binary)')),
    h('p', { class: 'small muted' }, `${message.direction} over ${message.transport}, ${message.peer}`),
    h('pre', { class: 'mono', tabindex: 0 }, message.text ?? message.base64))),
  leftOut > 0 && h('p', { class: 'muted' }, `${leftOut} more are not shown.`));
}

// What the model says of the call, as its assistant's analysisPlan asks.
function analysis({ analysis: told, analysisWaits }) {
  if (analysisWaits) return h('p', { class: 'muted' }, 'The model has not looked at this call yet: calls in progress go first.');
  const facts = [['Summary', told?.summary], ['Success', told?.successEvaluation],
    ...Object.entries(told?.structuredData ?? {}).map(([name, value]) => [format.words(name), typeof value === 'object' ? JSON.stringify(value) : String(value)])]
    .filter(([, value]) => value);
  if (!facts.length) return h('p', { class: 'muted' }, 'None: the assistant’s analysisPlan asks for it.');
  return h('dl', { class: 'facts' }, facts.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
}

export async function call(root, { id }) {
  const found = await api.get(`/ui/api/calls/${id}`);
  const { call: record } = found;
  const facts = [['From', record.from], ['To', record.to], ['Trunk', record.trunk ?? 'none'], ['Began', format.when(record.createdAt)],
    ['Answered', format.exact(record.startedAt)], ['Ended', format.exact(record.endedAt)], ['Ended by', format.words(record.endedBy)],
    ['Codec', record.codec ?? '–'], ['Encryption', record.srtp ?? 'none'], ['Keys pressed', record.digits || 'none'],
    ['Diverted from', record.divertedFrom], ['Mailbox', record.mailbox],
    ['Answered by', record.answeredBy && `${record.answeredBy.who} (${record.answeredBy.evidence})`],
    ['Greeting after', record.greetingMs != null && format.ms(record.greetingMs)], ['Id', record.id],
    ['SHA-256', record.recordingSha256]].filter(([, value]) => value);
  const played = player(record, id);
  replace(root,
    head(format.other(record), h('span', {}, h('a', { href: '#/history' }, 'History'), ` · ${record.assistant || 'mailbox'} · ${format.talked(record)}`),
      found.live && h('a', { class: 'button', href: '#/live' }, 'In progress: go to it'),
      h('span', { class: `pill ${format.outcomeClass(record.endedReason)}` }, format.words(record.endedReason ?? record.status)),
      record.recording && h('a', { class: 'button', href: `/ui/api/calls/${id}/recording`, download: `${id}.wav` }, 'Recording'),
      h('a', { class: 'button', href: `/call/${id}/pcap`, download: `${id}.pcap` }, 'PCAP'),
      h('a', { class: 'button', href: `data:application/json,${encodeURIComponent(JSON.stringify(record, null, 2))}`, download: `${id}.json` }, 'JSON')),
    h('div', { class: 'stack' }, played.element,
      h('div', { class: 'grid' },
        panel('Call', null, h('dl', { class: 'facts' }, facts.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]))),
        panel('Quality', null, quality(record.quality), record.quality?.roundTripMs != null
          && h('p', { class: 'small muted' }, `Round trip ${record.quality.roundTripMs} ms`))),
      panel('Ledger', h('span', { class: 'small muted' }, 'ms from the end of the caller’s speech'), record.turns.length ? ledger(record.turns) : empty('No turns', '')),
      panel('Analysis', null, analysis(found)),
      panel('SIP', null, ladder(found.sip, found.sipLeftOut))));
  return played.leave;
}
