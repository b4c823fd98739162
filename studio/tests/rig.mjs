// Servers and a browser for the tests.
//
// Where: `cargo xtask studio` builds both programs and names them in WOOTZ and WOOTZ_SCRIPTED.
// Idea:  every page of a test watches itself: a request to another address, a message of the browser's own (a violated
//        policy, a failed script) or an unexpected dialogue fails the test, whatever the test was about.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';

import { chromium } from 'playwright-core';

/** The key of the scripted server. */
export const KEY = 'test-key-1234';

/** What runs until the last test has ended. */
const running = new Set();
after(async () => { for (const stop of running) await stop(); });

const CHROMIUM = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

function program(name) {
  const path = process.env[name];
  assert.ok(path && existsSync(path), `${name} names no program; \`cargo xtask studio\` runs these tests`);
  return path;
}

/** A server that runs until it is stopped; its address is the first line that it prints, bare or in JSON. */
async function serve(command, args) {
  const home = mkdtempSync(join(tmpdir(), 'wootz-studio-'));
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'], env: { ...process.env, WOOTZ_HOME: home } });
  const line = await new Promise((resolve) => {
    createInterface(child.stdout).once('line', resolve);
    child.once('exit', () => resolve('it ended before it told its address'));
  });
  const url = line.startsWith('{') ? JSON.parse(line).address : line;
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+$/);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const stop = async () => {
    running.delete(stop);
    child.kill('SIGKILL');
    await ended;
    rmSync(home, { recursive: true, force: true });
  };
  running.add(stop);
  return { url, stop };
}

/** The built-in model, which is small and says the same to the same seed. */
export const small = (port = '0') => serve(program('WOOTZ'), ['serve', '--port', port, '--json']);

/** A model that says again what it is told, a character at a time, and wants a key. */
export const scripted = (pauseMs) => serve(program('WOOTZ_SCRIPTED'), [String(pauseMs)]);

let browser;

/** A page of that server that has just been opened. */
export async function open(server, options = {}) {
  const { key, expects = [], path = '/', ...context } = options;
  if (!browser) {
    const executablePath = CHROMIUM.find((path) => path && existsSync(path));
    assert.ok(executablePath, 'no Chromium: `apt-get install chromium`, or name it in CHROMIUM');
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
    running.add(() => browser.close());
  }
  const opened = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...context });
  if (key) await opened.addInitScript((key) => sessionStorage.setItem('wootz.key', key), key);
  const page = await opened.newPage();
  page.setDefaultTimeout(15_000);
  const wrong = [];
  opened.on('request', (request) => {
    if (new URL(request.url()).origin !== server.url) wrong.push(`a request left the server: ${request.url()}`);
  });
  page.on('console', (message) => {
    const text = message.text();
    if (['error', 'warning'].includes(message.type()) && !expects.some((expected) => text.includes(expected))) wrong.push(text);
  });
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('dialog', (dialog) => { wrong.push(`a dialogue: ${dialog.message()}`); void dialog.dismiss(); });
  await page.goto(server.url + path);
  return {
    page,
    /** Ends the page; nothing may have gone wrong on it. */
    done: async () => {
      await opened.close();
      assert.deepEqual(wrong, []);
    },
  };
}

/** Sends a message with the keyboard. */
export async function ask(page, text) {
  await page.getByRole('textbox', { name: 'Message', exact: true }).fill(text);
  // Until the models are known there is nobody to send it to.
  await page.locator('button[aria-label="Send"]:enabled').waitFor();
  await page.keyboard.press('Enter');
}

/** How many answers of a page were waited for. */
const answers = new WeakMap();

/** Waits until one more answer is complete; its text. */
export async function answer(page) {
  const before = answers.get(page) ?? 0;
  const handle = await page.waitForFunction((before) => {
    const turns = JSON.parse(localStorage.getItem('wootz.conversations') ?? '[]').flatMap(({ turns }) => turns);
    const n = turns.filter((turn) => turn.role === 'assistant' && (turn.finish || turn.problem)).length;
    return n > before && n;
  }, before);
  answers.set(page, await handle.jsonValue());
  await page.getByRole('button', { name: 'Send' }).waitFor();
  return text(page);
}

/** The text of the last answer, from what the page keeps. */
export async function text(page) {
  const turn = (await kept(page)).turns.filter((turn) => turn.role === 'assistant').at(-1);
  return turn?.content;
}

/** The newest conversation as the page keeps it. */
export async function kept(page) {
  return page.evaluate(() => {
    const all = JSON.parse(localStorage.getItem('wootz.conversations') ?? '[]');
    return all.sort((a, b) => b.changed - a.changed)[0];
  });
}

/** The tokens of the answer that shows them. */
export const tokensOf = (page) => page.getByRole('listbox', { name: 'Tokens' }).getByRole('option');

/** Asks the server itself. */
export async function api(server, path, body, key) {
  const headers = { 'content-type': 'application/json', ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(server.url + path, body ? { method: 'POST', headers, body: JSON.stringify(body) } : { headers });
  assert.equal(response.status, 200, path);
  return response.headers.get('content-type').startsWith('application/json') ? response.json() : response.text();
}
