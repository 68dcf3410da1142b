// An operator talks to an assistant by microphone, in headless Chromium whose microphone hears a
// recording.
//
// usage: node talk.mjs MODULES BASE NAME PASSWORD SCREENSHOTS RECORDING [UI]
//
// Prints one JSON line: what was seen. Ends with 1 where a step fails.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [modules, base, name, password, screenshots, recording, ui] = process.argv.slice(2);
const require = createRequire(join(modules, 'node_modules', 'x.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

// A small machine thinks about an answer for a while, beside other work.
const PATIENCE = 90_000;

const seen = {};
const errors = [];
const faults = [];

// A browser whose microphone is allowed, or is not, logged in at `address`.
async function enter(address, flags) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // Pages that do not come from the server may not reach this machine otherwise.
    args: ['--no-sandbox', ...(ui ? ['--disable-features=LocalNetworkAccessChecks'] : []), ...flags],
  });
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/status of 40[14]/.test(message.text())) errors.push(message.text());
  });
  if (ui) {
    await context.route(/\/ui\/(?!api\/)/, (route) => {
      const path = new URL(route.request().url()).pathname.replace(/^\/ui\//, '') || 'index.html';
      return route.fulfill({ path: join(ui, path) });
    });
  }
  await page.goto(`${address}/ui/`);
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  await page.goto(`${address}/ui/#/assistants/reception`);
  await page.getByRole('button', { name: 'Talk to it' }).click();
  return { browser, page, dialog: page.getByRole('dialog') };
}

async function talk() {
  const { browser, page, dialog } = await enter(base, ['--use-fake-ui-for-media-stream',
    '--use-fake-device-for-media-stream', `--use-file-for-fake-audio-capture=${recording}`]);
  await page.locator('dialog[data-state=talking]').waitFor();
  seen.call = await dialog.getAttribute('data-call');
  const line = dialog.locator('ol.talk li.user', { hasText: /order/i });
  await line.waitFor();
  const audible = async () => Number(await dialog.getAttribute('data-audible'));
  const before = await audible();
  // The answer, seen and heard.
  await page.waitForFunction(() => {
    const lines = [...document.querySelectorAll('dialog ol.talk li')];
    const asked = lines.findIndex((one) => one.matches('.user') && /order/i.test(one.textContent));
    return lines.slice(asked).some((one) => one.matches('.bot'));
  });
  await page.waitForFunction((least) => Number(document.querySelector('dialog').dataset.audible) > least, before + 0.5);
  seen.audible = [before, await audible()];
  seen.transcript = await dialog.locator('ol.talk li').allTextContents();
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  faults.push(...found.violations.filter((fault) => ['serious', 'critical'].includes(fault.impact)).map((fault) => `${fault.id} ${fault.nodes[0].target}`));
  for (const [size, viewport] of Object.entries({ desktop: { width: 1280, height: 860 }, phone: { width: 390, height: 844 } })) {
    for (const colorScheme of ['light', 'dark']) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: join(screenshots, `talk-${size}-${colorScheme}.png`) });
    }
  }
  await dialog.getByRole('button', { name: 'Hang up' }).click();
  await page.locator('dialog[data-state=over]').waitFor();
  seen.over = await dialog.getByRole('status').textContent();
  await dialog.getByRole('link', { name: 'Look at the call' }).click();
  await page.locator('.player').waitFor();
  await browser.close();
}

// What the page says where it cannot have the microphone.
async function refused(address, flags) {
  const { browser, page, dialog } = await enter(address, flags);
  await page.locator('dialog[data-state=over]').waitFor();
  const words = await dialog.getByRole('alert').textContent();
  await page.screenshot({ path: join(screenshots, 'talk-refused.png') });
  await browser.close();
  return words;
}

try {
  await talk();
  seen.denied = await refused(base, ['--use-fake-device-for-media-stream', '--deny-permission-prompts']);
  // Another name for the same server: no longer this machine's own, to the browser.
  const elsewhere = base.replace('127.0.0.1', 'phone.example.com');
  seen.insecure = await refused(elsewhere, ['--host-resolver-rules=MAP phone.example.com 127.0.0.1']);
} catch (error) {
  console.log(JSON.stringify({ failed: error.message, seen, errors, faults }));
  process.exit(1);
}
console.log(JSON.stringify({ seen, errors, faults }));
