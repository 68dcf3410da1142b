// Charts in SVG: stacked bars and lines over time, each with its figures as a table for those who
// cannot see it.

import { h, s } from './dom.js';

const WIDTH = 560;
const HEIGHT = 180;
const LEFT = 40;
const BOTTOM = 22;
const TOP = 8;

function niceMost(value) {
  if (value <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((most) => most >= value);
}

function frame(most, labels, unit) {
  const parts = [];
  for (let step = 0; step <= 4; step += 1) {
    const y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - step / 4);
    parts.push(s('line', { class: 'axis', x1: LEFT, x2: WIDTH, y1: y, y2: y }));
    const value = (most * step) / 4;
    parts.push(s('text', { x: LEFT - 6, y: y + 4, 'text-anchor': 'end' }, Number.isInteger(value) ? value : value.toFixed(1)));
  }
  const every = Math.ceil(labels.length / 6);
  labels.forEach((label, place) => {
    if (place % every) return;
    const x = LEFT + ((WIDTH - LEFT) * (place + 0.5)) / labels.length;
    parts.push(s('text', { x, y: HEIGHT - 6, 'text-anchor': place ? 'middle' : 'start' }, label));
  });
  if (unit) parts.push(s('text', { x: WIDTH, y: TOP + 4, 'text-anchor': 'end' }, unit));
  return parts;
}

function legend(series) {
  return h('div', { class: 'legend' },
    series.map((one) => h('span', {}, h('i', { class: `bg-${one.color}` }), one.name)));
}

function figures(title, labels, series) {
  return h('details', {}, h('summary', { class: 'small muted' }, 'Figures'),
    h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `${title}: figures` }, h('table', { class: 'small' },
      h('thead', {}, h('tr', {}, h('th', {}, 'Time'), series.map((one) => h('th', { class: 'right' }, one.name)))),
      h('tbody', {}, labels.map((label, place) => h('tr', {}, h('td', {}, label),
        series.map((one) => h('td', { class: 'right num' }, one.values[place] ?? '–'))))))));
}

function y(value, most) {
  return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
}

export function bars(title, labels, series, unit) {
  const sums = labels.map((_, place) => series.reduce((sum, one) => sum + (one.values[place] ?? 0), 0));
  const most = niceMost(Math.max(1, ...sums));
  const width = (WIDTH - LEFT) / labels.length;
  const shapes = [];
  labels.forEach((label, place) => {
    let below = 0;
    for (const one of series) {
      const value = one.values[place] ?? 0;
      if (!value) continue;
      const top = y(below + value, most);
      shapes.push(s('rect', {
        class: one.color, x: LEFT + place * width + width * 0.15, width: width * 0.7,
        y: top, height: y(below, most) - top, rx: Math.min(2, width / 4),
      }, s('title', {}, `${label}: ${value} ${one.name}`)));
      below += value;
    }
  });
  const total = sums.reduce((sum, value) => sum + value, 0);
  return h('div', {},
    s('svg', { class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `${title}: ${Math.round(total)} in all` },
      frame(most, labels, unit), shapes),
    series.length > 1 && legend(series), figures(title, labels, series));
}

export function lines(title, labels, series, unit) {
  const all = series.flatMap((one) => one.values.filter((value) => value !== null));
  const most = niceMost(Math.max(1, ...all));
  const x = (place) => LEFT + ((WIDTH - LEFT) * (place + 0.5)) / labels.length;
  const paths = series.flatMap((one) => {
    let path = '';
    let open = false;
    const dots = [];
    one.values.forEach((value, place) => {
      if (value === null || value === undefined) { open = false; return; }
      path += `${open ? 'L' : 'M'}${x(place).toFixed(1)} ${y(value, most).toFixed(1)}`;
      open = true;
      if (labels.length <= 60) {
        dots.push(s('circle', { class: one.color, cx: x(place), cy: y(value, most), r: 2.4 },
          s('title', {}, `${labels[place]}: ${value} ${one.name}`)));
      }
    });
    return [s('path', { class: `line stroke-${one.color}`, d: path || 'M0 0' }), ...dots];
  });
  return h('div', {},
    s('svg', { class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `${title}: ${all.length ? `up to ${Math.max(...all)} ${unit ?? ''}` : 'nothing yet'}` },
      frame(most, labels, unit), paths),
    legend(series), figures(title, labels, series));
}
