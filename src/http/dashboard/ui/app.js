// The frame around the pages: navigation, who is logged in, and which page is shown.

import * as api from './lib/api.js';
import { failure, h, head, replace, toast } from './lib/dom.js';
import { assistants } from './pages/assistants.js';
import { call } from './pages/call.js';
import { history } from './pages/history.js';
import { live } from './pages/live.js';
import { login } from './pages/login.js';
import { numbers } from './pages/numbers.js';
import { overview } from './pages/overview.js';
import { trunks } from './pages/trunks.js';
import { voicemails } from './pages/voicemails.js';

const PAGES = [
  ['overview', 'Overview', overview], ['live', 'Live calls', live], ['history', 'History', history],
  ['assistants', 'Assistants', assistants], ['numbers', 'Numbers', numbers], ['trunks', 'Trunks', trunks],
  ['voicemails', 'Voicemail', voicemails],
];

const app = document.getElementById('app');
let leave = null;
let stopCounting = null;

function theme() {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const now = () => document.documentElement.dataset.theme ?? (system.matches ? 'dark' : 'light');
  const button = h('button', {
    class: 'quiet',
    onclick() {
      const other = now() === 'dark' ? 'light' : 'dark';
      document.documentElement.dataset.theme = other;
      try { localStorage.setItem('theme', other); } catch { /* not kept, then */ }
      name();
    },
  });
  const name = () => {
    const other = now() === 'dark' ? 'light' : 'dark';
    button.textContent = now() === 'dark' ? '☀' : '☾';
    button.setAttribute('aria-label', `Switch to the ${other} scheme`);
    button.title = `Switch to the ${other} scheme`;
  };
  system.addEventListener('change', name);
  name();
  return button;
}

function shell(session) {
  const count = h('span', { class: 'count', hidden: true });
  const links = PAGES.map(([path, title]) => h('a', { href: `#/${path}`, 'data-page': path },
    title, path === 'live' && count));
  const main = h('main', { id: 'main', tabindex: -1 });
  const gone = h('p', { class: 'gone', role: 'alert', hidden: true }, 'The server does not answer. What is shown may be old.');
  replace(app, gone, h('div', { class: 'shell' },
    h('header', { class: 'side' },
      h('a', { class: 'brand', href: '#/overview', 'aria-label': 'Offhook, overview' },
        h('img', { src: '/ui/icon.svg', alt: '' }), h('span', {}, 'Offhook')),
      h('nav', { 'aria-label': 'Pages' }, h('ul', {}, links.map((link) => h('li', {}, link)))),
      h('div', { class: 'foot' }, h('span', { class: 'who' }, `${session.operator} · ${session.version}`),
        h('div', { class: 'row' }, theme(), h('button', {
          class: 'quiet',
          async onclick() {
            await api.remove('/ui/api/session').catch(() => {});
            start();
          },
        }, 'Log out')))),
    main));
  countCalls(count, (up) => { gone.hidden = up; });
  return { main, links };
}

// How many calls there are, kept up to date by their events.
function countCalls(count, onstate) {
  const ids = new Set();
  const show = () => {
    count.hidden = ids.size === 0;
    count.textContent = ids.size;
    count.setAttribute('aria-label', `${ids.size} in progress`);
  };
  const load = async () => {
    const calls = await api.get('/ui/api/live').catch(() => []);
    ids.clear();
    calls.forEach(({ call: { id } }) => ids.add(id));
    show();
  };
  stopCounting?.();
  stopCounting = api.follow('/ui/api/live/events', (event) => {
    if (event.type !== 'status-update') return;
    if (event.call.status === 'ended') ids.delete(event.callId); else ids.add(event.callId);
    show();
  }, load, onstate);
  load();
}

let frame = null;

async function show() {
  const [path, search = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = (path || 'overview').split('/');
  const found = PAGES.find(([page]) => page === name);
  leave?.();
  leave = null;
  const shown = name === 'call' ? 'history' : name;
  frame.links.forEach((link) => {
    if (link.dataset.page === shown) {
      link.setAttribute('aria-current', 'page');
      // On a phone the links are a row that is wider than the screen.
      link.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    } else link.removeAttribute('aria-current');
  });
  const page = name === 'call' ? call : found?.[2] ?? overview;
  const title = name === 'call' ? 'Call' : found?.[1] ?? 'Overview';
  document.title = `${title} · Offhook`;
  replace(frame.main, h('p', { class: 'muted', role: 'status' }, 'Loading…'));
  const here = location.hash;
  try {
    const left = await page(frame.main, { id: decodeURIComponent(rest.join('/')), search: new URLSearchParams(search) });
    if (location.hash === here) leave = left ?? null; else left?.();
  } catch (error) {
    if (error.status === 401) return;
    replace(frame.main, head(title), failure(error, show));
  }
  if (document.activeElement === document.body) frame.main.focus({ preventScroll: true });
}

async function start() {
  leave?.();
  leave = null;
  stopCounting?.();
  stopCounting = null;
  frame = null;
  let session;
  try {
    session = await api.session();
  } catch (error) {
    return replace(app, h('main', { id: 'main' }, failure(error, start)));
  }
  if (!session.operator) {
    document.title = 'Log in · Offhook';
    return login(app, session.setup, start);
  }
  frame = shell(session);
  return show();
}

document.querySelector('.skip').addEventListener('click', (event) => {
  // The address says which page is shown.
  event.preventDefault();
  document.getElementById('main')?.focus();
});
addEventListener('hashchange', () => frame && show());
addEventListener('loggedout', () => {
  if (!frame) return;
  toast('You were logged out.');
  start();
});
start();
