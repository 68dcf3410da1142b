// An operator at the dashboard, in headless Chromium, while somebody is on the phone.
//
// usage: node dashboard.mjs MODULES BASE NAME PASSWORD SCREENSHOTS [UI]
//
// Prints one JSON line: what was seen, and what axe-core found. Ends with 1 where a step fails.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [modules, base, name, password, screenshots, ui] = process.argv.slice(2);
const require = createRequire(join(modules, 'node_modules', 'x.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const PAGES = ['overview', 'live', 'history', 'assistants', 'assistants/new', 'numbers', 'trunks', 'voicemails'];
const SIZES = { desktop: { width: 1280, height: 860 }, phone: { width: 390, height: 844 } };
const PATIENCE = 45_000;

const faults = [];
const errors = [];
const seen = {};

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // Pages that do not come from the server may not reach this machine otherwise.
  args: ['--no-sandbox', '--autoplay-policy=user-gesture-required', ...(ui ? ['--disable-features=LocalNetworkAccessChecks'] : [])],
});
const context = await browser.newContext({ viewport: SIZES.desktop, colorScheme: 'light', bypassCSP: false });
const page = await context.newPage();
page.setDefaultTimeout(PATIENCE);
page.on('pageerror', (error) => errors.push(`${page.url()}: ${error.message}`));
page.on('console', (message) => {
  // The answer to a wrong password, and parts of the API that this build lacks, are asked for.
  if (message.type() === 'error' && !/status of 40[14]/.test(message.text())) errors.push(message.text());
});
if (ui) {
  // Files of a working tree in place of those built in: for those who work on them.
  await context.route(/\/ui\/(?!api\/)/, (route) => {
    const path = new URL(route.request().url()).pathname.replace(/^\/ui\//, '') || 'index.html';
    return route.fulfill({ path: join(ui, path) });
  });
}

async function look(title, path) {
  if (path !== undefined) {
    await page.goto(`${base}/ui/#/${path}`);
    await page.waitForSelector('h1');
  }
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    // Puppeteering is not a page's script: it runs in spite of the policy.
    await page.evaluate(axe);
    const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    for (const fault of found.violations) {
      if (!['serious', 'critical'].includes(fault.impact)) continue;
      faults.push({ page: title, scheme, rule: fault.id, nodes: fault.nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`) });
    }
    for (const [size, viewport] of Object.entries(SIZES)) {
      await page.setViewportSize(viewport);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 1) faults.push({ page: title, scheme, rule: `wider than a ${size} by ${wide} px`, nodes: [] });
      await page.screenshot({ path: join(screenshots, `${title}-${size}-${scheme}.png`) });
    }
    await page.setViewportSize(SIZES.desktop);
  }
  await page.emulateMedia({ colorScheme: 'light' });
}

async function logIn() {
  await page.goto(`${base}/ui/`);
  await page.getByLabel('Name').waitFor();
  await look('login');
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill('not the password');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByText('the name or the password is wrong').waitFor();
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
}

async function followTheCall() {
  await page.getByRole('link', { name: 'Live calls' }).click();
  const card = page.locator('article.live-call');
  await card.waitFor();
  seen.call = await card.getAttribute('data-call');
  const spoken = card.locator('ol.talk li');
  await card.locator('li.bot').first().waitFor();
  const before = await spoken.allTextContents();
  await card.getByRole('button', { name: 'Listen in' }).click();
  await card.getByLabel('Something for the assistant to say').fill('This is the operator speaking.');
  await card.getByRole('button', { name: 'Say' }).click();
  await card.locator('li.bot', { hasText: 'This is the operator speaking.' }).waitFor();
  await page.waitForFunction((count) => document.querySelectorAll('article.live-call ol.talk li').length > count, before.length);
  seen.transcript = await spoken.allTextContents();
  await page.waitForFunction(() => {
    const heard = document.querySelector('[data-heard]');
    return Number(heard.dataset.heard) > 2 && heard.dataset.playing === 'true';
  });
  seen.heardSeconds = Number(await card.locator('[data-heard]').getAttribute('data-heard'));
  await card.getByRole('button', { name: 'Mute assistant' }).click();
  await card.getByRole('button', { name: 'Unmute assistant' }).click();
  await card.getByRole('button', { name: 'Mute assistant' }).waitFor();
}

async function typeAnAssistant() {
  await page.goto(`${base}/ui/#/assistants/new`);
  await page.getByText('This is right.').waitFor();
  const settings = page.getByLabel('Settings');
  await settings.fill('{"name": "Ann", "silenceTimeoutSeconds": -1}');
  await page.locator('.mistakes', { hasText: 'silenceTimeoutSeconds' }).waitFor();
  await settings.fill('{"name": "Ann", "voice": {"provider": "11labs", "voiceId": "x"}, "ofTheirs": 1}');
  await page.getByText('This is right.').waitFor();
  await page.locator('.notice', { hasText: 'voice.provider' }).waitFor();
  await settings.fill('{"name": "Ann", "silenceTimeoutSeconds": -1}');
  await page.locator('.mistakes', { hasText: 'silenceTimeoutSeconds' }).waitFor();
  seen.mistake = await page.locator('.mistakes').textContent();
}

async function endTheCall() {
  await page.goto(`${base}/ui/#/live`);
  const card = page.locator('article.live-call');
  await card.getByRole('button', { name: 'End call' }).click();
  await card.waitFor({ state: 'detached' });
  await page.getByText('Nobody is on the phone').waitFor();
}

async function playTheCall() {
  await page.goto(`${base}/ui/#/history?text=operator%20speaking`);
  await page.locator('tbody tr a').first().click();
  const audio = page.locator('audio');
  await audio.waitFor();
  await page.waitForFunction(() => document.querySelector('audio').duration > 1);
  // A line of the transcript plays from where it was said.
  const line = page.locator('ol.talk li', { hasText: 'This is the operator speaking.' }).last();
  seen.lineSeconds = Number(await line.getAttribute('data-start')) / 1000;
  await line.getByRole('button').click();
  await page.waitForFunction((at) => {
    const { currentTime, paused } = document.querySelector('audio');
    return !paused && currentTime > at + 0.3;
  }, seen.lineSeconds);
  seen.played = await audio.evaluate((element) => element.currentTime);
  await page.locator('ol.talk li.now').first().waitFor();
  await audio.evaluate((element) => element.pause());
  // The waveform goes to where it is clicked, by a request for a part of the file.
  await page.locator('canvas.wave').click({ position: { x: 20, y: 20 } });
  await page.waitForFunction(() => document.querySelector('audio').currentTime < 4);
  seen.duration = await audio.evaluate((element) => element.duration);
  await audio.evaluate((element) => element.pause());
  seen.moved = await page.locator('.timeline .cursor').getAttribute('x1');
  seen.ladder = await page.locator('.ladder summary').count();
  await look('call');
}

try {
  await logIn();
  await followTheCall();
  for (const path of PAGES) await look(path.replace('/', '-'), path);
  await typeAnAssistant();
  await endTheCall();
  await playTheCall();
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByRole('button', { name: 'Log in' }).waitFor();
  const cookies = await context.cookies();
  seen.cookiesLeft = cookies.length;
} catch (error) {
  await page.screenshot({ path: join(screenshots, 'failed.png') }).catch(() => {});
  console.log(JSON.stringify({ failed: error.message, seen, faults, errors }));
  await browser.close();
  process.exit(1);
}
await browser.close();
console.log(JSON.stringify({ seen, faults, errors }));
