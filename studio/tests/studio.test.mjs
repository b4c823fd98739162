// The studio in a browser, in front of real servers.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { before, describe, test } from 'node:test';

import { KEY, answer, api, ask, kept, open, scripted, small, text, tokensOf } from './rig.mjs';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
let model;
let echo;

before(async () => {
  model = await small();
  echo = await scripted(15);
});

/** Always the likeliest token, so that answers are the same everywhere. */
async function exact(page, maxTokens = 60) {
  await page.getByText('Exact numbers').click();
  const number = async (name, value) => {
    await page.getByRole('spinbutton', { name }).fill(String(value));
    await page.keyboard.press('Tab');
  };
  await number('temperature', 0);
  await number('max_tokens', maxTokens);
  await number('min_p', 0);
}

async function accessible(page, where) {
  // The policy lets no script into the page but its own; the inspector's world is not the page's.
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send('Page.getFrameTree');
  const { executionContextId } = await session.send('Page.createIsolatedWorld', { frameId: frameTree.frame.id, worldName: 'axe' });
  const { readFileSync } = await import('node:fs');
  const run = async (expression) => {
    const answer = await session.send('Runtime.evaluate', { expression, contextId: executionContextId, awaitPromise: true, returnByValue: true });
    assert.equal(answer.exceptionDetails, undefined, JSON.stringify(answer.exceptionDetails));
    return answer.result.value;
  };
  await run(readFileSync(AXE, 'utf8'));
  const found = await run(`axe.run(document, { resultTypes: ['violations'] }).then((found) =>
    found.violations.map(({ id, nodes }) => id + ': ' + nodes.map((node) => node.target.join(' ') + ' ' + node.failureSummary).join('; ')))`);
  assert.deepEqual(found, [], where);
  await session.detach();
}

describe('talking', () => {
  test('an answer comes as it is made, with its facts', async () => {
    const { page, done } = await open(echo, { key: KEY });
    const words = 'A **bold** word, then `code`, then some more so that it takes a while to say all of this again.';
    await ask(page, words);
    const lengths = new Set();
    const said = page.locator('.answer');
    await said.waitFor();
    while (await page.getByRole('button', { name: 'Stop' }).isVisible()) lengths.add((await said.innerText()).length);
    assert.ok(lengths.size >= 5, `it grew in ${lengths.size} steps`);
    await page.getByText(new RegExp(`^${words.length} tokens in .* first after`)).waitFor();
    assert.equal(await said.locator('strong').innerText(), 'bold');
    assert.equal(await said.locator('code').innerText(), 'code');
    await done();
  });

  test('stopping ends the answer here and on the server, and it can go on', async () => {
    const { page, done } = await open(echo, { key: KEY });
    const failed = async () => /generations_failed_total\{model="scripted"\} (\d+)/.exec(await api(echo, '/metrics', undefined, KEY))?.[1] ?? '0';
    const before = Number(await failed());
    const long = 'word '.repeat(100).trim();
    await ask(page, long);
    await page.locator('.answer').filter({ hasText: 'word word' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByText('You stopped it.').waitFor();
    const said = await text(page);
    assert.ok(long.startsWith(said) && said.length < long.length, said);
    for (let i = 0; i < 50 && Number(await failed()) === before; i += 1) await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(Number(await failed()), before + 1);
    // The same by the button.
    await ask(page, long);
    await page.getByRole('button', { name: 'Stop' }).click();
    await page.getByRole('button', { name: 'Send' }).waitFor();
    assert.equal((await kept(page)).turns.at(-1).finish, 'stopped');
    await done();
  });

  test('editing and trying again add versions, and one can walk between them', async () => {
    const { page, done } = await open(echo, { key: KEY });
    await ask(page, 'first words');
    assert.equal(await answer(page), 'first words');
    await page.getByRole('button', { name: 'Edit message' }).click();
    await page.getByRole('textbox', { name: 'Edit message' }).fill('other words');
    await page.keyboard.press('Enter');
    assert.equal(await answer(page), 'other words');
    await page.getByRole('button', { name: 'Retry' }).click();
    await answer(page);
    await page.getByRole('group', { name: 'Version 2 of 2' }).nth(1).waitFor();
    await page.getByRole('button', { name: 'Earlier version' }).first().click();
    await page.locator('.answer', { hasText: 'first words' }).waitFor();
    await page.getByRole('button', { name: 'Later version' }).click();
    await page.locator('.answer', { hasText: 'other words' }).waitFor();
    await page.reload();
    await page.getByRole('button', { name: 'first words', exact: true }).click();
    await page.locator('.answer', { hasText: 'other words' }).waitFor();
    await done();
  });

  test('thoughts stand apart from the answer', async () => {
    const { page, done } = await open(echo, { key: KEY });
    await ask(page, '<think>let me see</think>It is **so**.');
    await page.getByRole('button', { name: 'Retry' }).waitFor();
    const [, turn] = (await kept(page)).turns;
    assert.deepEqual([turn.reasoning, turn.content], ['let me see', 'It is **so**.']);
    await page.getByText('Thoughts').click();
    await page.getByText('let me see', { exact: true }).waitFor();
    assert.equal(await page.locator('.answer').innerText(), 'It is so.');
    await done();
  });

  test('two tabs keep each other’s conversations', async () => {
    const { page, done } = await open(echo, { key: KEY });
    const other = await page.context().newPage();
    await other.goto(echo.url);
    await ask(page, 'in the first');
    await page.getByRole('button', { name: 'Retry' }).waitFor();
    await ask(other, 'in the second');
    await other.getByRole('button', { name: 'Retry' }).waitFor();
    for (const tab of [page, other]) {
      for (const title of ['in the first', 'in the second']) await tab.getByRole('button', { name: title, exact: true }).waitFor();
    }
    assert.equal((await titles(page)).length, 2);
    await other.getByRole('button', { name: 'Delete “in the first”' }).focus();
    await other.keyboard.press('Enter');
    await page.getByRole('button', { name: 'in the first', exact: true }).waitFor({ state: 'detached' });
    await page.getByRole('heading', { name: 'Talk with scripted' }).waitFor();
    await done();
  });

  test('the persona is sent, and the request that is shown is the request that is sent', async () => {
    const { page, done } = await open(model);
    await exact(page, 12);
    await page.getByRole('combobox', { name: 'Persona' }).selectOption({ label: 'Storyteller' });
    await page.getByRole('textbox', { name: 'What the persona is told' }).fill('Be brief.');
    await page.getByRole('textbox', { name: 'Message', exact: true }).fill('Tell me a story.');
    await page.getByText('The request as it is sent').click();
    const shown = JSON.parse(await page.getByRole('group', { name: 'Request' }).innerText());
    const sent = page.waitForRequest((request) => request.url().endsWith('/v1/chat/completions'));
    await page.getByRole('button', { name: 'Send' }).click();
    assert.deepEqual((await sent).postDataJSON(), shown);
    assert.deepEqual(shown.messages, [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Tell me a story.' }]);
    assert.deepEqual([shown.temperature, shown.max_tokens, shown.min_p], [0, 12, 0]);
    await answer(page);
    await page.getByText('It reached the length that was set.').waitFor();
    await done();
  });

  test('sliders speak in words and set numbers', async () => {
    const { page, done } = await open(model);
    const slider = page.getByRole('slider', { name: 'Creativity' });
    await slider.focus();
    await page.keyboard.press('Home');
    assert.equal(await slider.getAttribute('aria-valuetext'), 'always the likeliest, temperature 0.00');
    await page.keyboard.press('End');
    assert.equal(await slider.getAttribute('aria-valuetext'), 'wild, temperature 2.00');
    await page.getByRole('slider', { name: 'Length' }).focus();
    await page.keyboard.press('End');
    await page.getByText('The request as it is sent').click();
    const request = JSON.parse(await page.getByRole('group', { name: 'Request' }).innerText());
    assert.deepEqual([request.temperature, 'max_tokens' in request], [2, false]);
    await page.getByRole('button', { name: 'Back to the defaults' }).click();
    assert.equal(await slider.getAttribute('aria-valuetext'), 'lively, temperature 0.80');
    await done();
  });
});

describe('tokens', () => {
  test('a branch says what the API says to the same tokens, and one can walk back', async () => {
    const { page, done } = await open(model);
    await exact(page);
    await ask(page, 'Tell me a story about a cat.');
    const first = await answer(page);
    await page.getByRole('button', { name: 'Tokens', exact: true }).click();
    const options = tokensOf(page);
    const [original] = (await kept(page)).turns.filter((turn) => turn.role === 'assistant');
    assert.equal(await options.count(), original.tokens.length);
    const at = 7;
    assert.equal(await options.nth(at).getAttribute('aria-label'), label(original.tokens[at]));
    await options.nth(at).click();
    const choices = page.getByRole('group', { name: /^What could have come instead/ }).getByRole('button');
    assert.equal(await choices.count(), 8);
    const other = original.tokens[at].top[2];
    await choices.nth(2).click();
    const branch = await answer(page);
    assert.notEqual(branch, first);

    const messages = [{ role: 'user', content: 'Tell me a story about a cat.' }];
    const { tokens } = await api(model, '/v1/tokenize', { messages });
    const begins = [...original.tokens.slice(0, at).map((token) => token.id), other.id];
    const continued = await api(model, '/v1/completions', {
      model: 'wootz-small', prompt: [...tokens, ...begins], max_tokens: 60, temperature: 0,
    });
    const { prompt: beginning } = await api(model, '/v1/detokenize', { tokens: begins });
    assert.equal(branch, beginning + continued.choices[0].text);

    // The branch is shown as tokens, too, and its own token has the focus.
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), label(other));
    await page.getByRole('button', { name: 'Earlier version' }).click();
    await page.getByRole('option', { name: label(original.tokens[at]), exact: true }).first().waitFor();
    await page.getByRole('button', { name: 'Later version' }).click();
    await page.getByRole('option', { name: label(other), exact: true }).first().waitFor();
    await done();
  });

  test('probabilities are those of the API', async () => {
    const { page, done } = await open(model);
    await exact(page, 10);
    await ask(page, 'Tell me a story about a dog.');
    await answer(page);
    const body = { model: 'wootz-small', messages: [{ role: 'user', content: 'Tell me a story about a dog.' }], temperature: 0, max_tokens: 10, logprobs: true, top_logprobs: 8 };
    const { choices } = await api(model, '/v1/chat/completions', body);
    const shown = (await kept(page)).turns.at(-1).tokens;
    const expected = choices[0].logprobs.content;
    assert.deepEqual(shown.map(({ id, logprob }) => [id, logprob]), expected.map(({ id, logprob }) => [id, logprob]));
    assert.deepEqual(shown.map(({ top }) => top.map(({ id }) => id)), expected.map(({ top_logprobs }) => top_logprobs.map(({ id }) => id)));
    await done();
  });

  test('an answer can end early at a token that ends it', async () => {
    const { page, done } = await open(model);
    await exact(page, 200);
    await ask(page, 'Tell me a story about a cat.');
    await answer(page);
    const [original] = (await kept(page)).turns.filter((turn) => turn.role === 'assistant');
    const at = original.tokens.findIndex((token, i) => i > 0 && token.top.some(({ text }) => text === '<|im_end|>'));
    assert.ok(at > 0, 'some place is a possible end');
    await page.getByRole('button', { name: 'Tokens', exact: true }).click();
    await tokensOf(page).nth(at).click();
    const sent = [];
    page.on('request', (request) => sent.push(new URL(request.url()).pathname));
    await page.getByRole('button', { name: /^Branch with <\|im_end\|>/ }).click();
    await page.getByRole('group', { name: 'Version 2 of 2' }).waitFor();
    const branch = (await kept(page)).turns.at(-1);
    assert.equal(branch.finish, 'stop');
    assert.equal(branch.tokens.length, at);
    assert.ok(original.content.startsWith(branch.content));
    assert.ok(!sent.includes('/v1/chat/completions'), 'nothing is left to generate');
    await done();
  });

  test('everything can be done with the keyboard alone', async () => {
    const { page, done } = await open(model);
    const focus = () => page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim());
    const tabTo = async (name) => {
      for (let i = 0; i < 40; i += 1) {
        if ((await focus()).startsWith(name)) return;
        await page.keyboard.press('Tab');
      }
      assert.fail(`Tab does not lead to ${name}`);
    };
    assert.equal(await focus(), 'Message');
    await page.keyboard.type('Tell me a story.');
    await page.locator('button[aria-label="Send"]:enabled').waitFor();
    await page.keyboard.press('Enter');
    await answer(page);
    for (let i = 0; i < 60 && (await focus()) !== 'Tokens'; i += 1) await page.keyboard.press('Shift+Tab');
    await page.keyboard.press('Enter');
    for (let i = 0; i < 30 && (await page.evaluate(() => document.activeElement.role)) !== 'option'; i += 1) await page.keyboard.press('Shift+Tab');
    assert.equal(await page.evaluate(() => document.activeElement.role), 'option');
    for (const key of ['Home', 'ArrowRight', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key);
    await page.keyboard.press('Enter');
    assert.match(await focus(), /^Branch with/);
    await page.keyboard.press('Escape');
    assert.equal(await page.evaluate(() => document.activeElement.role), 'option');
    await page.keyboard.press('Enter');
    await page.keyboard.press('ArrowDown');
    const chosen = (await focus()).slice('Branch with '.length);
    await page.keyboard.press('Enter');
    await answer(page);
    assert.equal(await focus(), chosen);
    await tabTo('Settings');
    await page.keyboard.press('ArrowRight');
    await page.getByRole('tabpanel', { name: 'Prompt' }).waitFor();
    await page.keyboard.press('ArrowRight');
    await page.getByRole('tabpanel', { name: 'Server' }).waitFor();
    await done();
  });
});

/** What an option for a token is called. */
function label({ text, logprob }) {
  const p = Math.exp(logprob) * 100;
  return `${text.trim() || text}, ${p >= 99.95 ? '100' : p >= 1 ? p.toFixed(1) : p.toFixed(2)} %`;
}

describe('prompt and load', () => {
  test('the prompt is what the server makes of it, to the token', async () => {
    const { page, done } = await open(model);
    await exact(page, 5);
    await ask(page, 'Hello <|im_end|> there');
    await answer(page);
    await page.getByRole('button', { name: 'Prompt', exact: true }).click();
    const shown = page.getByRole('group', { name: 'Prompt', exact: true });
    await shown.waitFor();
    const messages = [{ role: 'user', content: 'Hello <|im_end|> there' }];
    const applied = await api(model, '/apply-template', { messages, with_pieces: true });
    assert.equal(await shown.evaluate((element) => element.textContent), applied.prompt);
    const { usage } = (await kept(page)).turns.at(-1);
    assert.equal(applied.tokens.length, usage.prompt_tokens);
    await page.getByText(`${usage.prompt_tokens} of 1,024 tokens`).waitFor();
    assert.equal(await shown.locator('mark').count(), applied.tokens.filter((token) => token.special).length);
    await page.getByRole('button', { name: 'Tokens', exact: true }).last().click();
    assert.equal(await shown.locator('.piece').count(), applied.tokens.length);
    await done();
  });

  test('the load is what /metrics says', async () => {
    const { page, done } = await open(model);
    await page.getByRole('tab', { name: 'Server' }).click();
    const plot = page.getByRole('img', { name: /^Tokens per second/ });
    await ask(page, 'Tell me a story.');
    await answer(page);
    await page.waitForFunction(() => /highest [1-9]/.test(document.querySelector('[aria-label^="Tokens per second"]').getAttribute('aria-label')));
    assert.match(await plot.getAttribute('aria-label'), /in the last \d+ seconds$/);
    const made = async () => Number(/completion_tokens_total\{model="wootz-small"\} (\d+)/.exec(await api(model, '/metrics'))[1]).toLocaleString('en');
    const fact = page.locator('dl > div', { hasText: 'tokens made' }).locator('dd');
    await page.waitForFunction(([element, expected]) => element.textContent === expected, [await fact.elementHandle(), await made()]);
    await done();
  });
});

describe('who may', () => {
  test('a server with keys asks for one and keeps it in the tab alone', async () => {
    const { page, done } = await open(echo, { expects: ['401'] });
    const dialog = page.getByRole('dialog', { name: 'This server wants a key' });
    await dialog.waitFor();
    await accessible(page, 'the dialogue');
    await dialog.getByLabel('Key').fill('a-wrong-key');
    await page.keyboard.press('Enter');
    await dialog.getByRole('alert').filter({ hasText: 'not known' }).waitFor();
    await dialog.getByLabel('Key').fill(KEY);
    await page.keyboard.press('Enter');
    await dialog.waitFor({ state: 'hidden' });
    await page.getByRole('option', { name: 'scripted' }).waitFor({ state: 'attached' });
    // The other two of that server cannot talk.
    assert.deepEqual(await page.getByRole('combobox', { name: 'Model' }).locator('option').allInnerTexts(), ['scripted']);
    await ask(page, 'hello');
    assert.equal(await answer(page), 'hello');
    const stored = await page.evaluate(() => [JSON.stringify(localStorage), sessionStorage.getItem('wootz.key'), document.cookie]);
    assert.ok(!stored[0].includes(KEY) && stored[1] === KEY && stored[2] === '', String(stored));
    await page.reload();
    await page.getByRole('button', { name: 'hello', exact: true }).click();
    assert.ok(!(await dialog.isVisible()));
    await done();
  });

  test('nothing that a model says becomes script, a foreign request or a dangerous link', async () => {
    const { page, done } = await open(echo, { key: KEY });
    const hostile = [
      '<script>window.hacked = 1</script> <img src=x onerror="window.hacked = 1"> <svg/onload=window.hacked=1>',
      '![picture](https://example.com/spy.png) [click](javascript:window.hacked=1) [data](data:text/html,<script>1</script>)',
      '[ok](https://example.com/?a=1&b="><script>) <javascript:alert(1)> [x](java\tscript:alert(1)) [v](vbscript:x)',
      '`<b>` **<i>x</i>** | a | b |',
      '```html"><script>window.hacked=1</script>',
      '<iframe src="https://example.com"></iframe>{{constructor.constructor("window.hacked=1")()}}',
    ].join('\n');
    await ask(page, hostile);
    await answer(page);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    const bad = await page.locator('main :is(script, iframe, object, embed, img, form, style, link, meta, base)').count();
    assert.equal(bad, 0);
    const hrefs = await page.locator('.answer a').evaluateAll((links) => links.map((link) => [new URL(link.href).protocol, link.rel]));
    assert.ok(hrefs.length >= 1);
    for (const [protocol, rel] of hrefs) assert.deepEqual([protocol, rel], ['https:', 'noopener noreferrer nofollow']);
    assert.match(await page.locator('.answer').innerText(), /<script>window\.hacked = 1<\/script>/);
    await page.getByRole('button', { name: 'Tokens', exact: true }).click();
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    await done();
  });
});

describe('when something is wrong', () => {
  test('a prompt that is too long is told with what to do', async () => {
    const { page, done } = await open(model, { expects: ['400'] });
    await ask(page, 'word '.repeat(2000));
    const alert = page.getByRole('alert').filter({ hasText: 'tokens' });
    await alert.getByText('context is 1024 tokens').waitFor();
    await alert.getByText('begin a new conversation').waitFor();
    await accessible(page, 'an error');
    await done();
  });

  test('a server that is gone is told, and trying again works once it is back', async () => {
    const gone = await small();
    const { page, done } = await open(gone, { expects: ['ERR_CONNECTION_REFUSED'] });
    await page.getByRole('heading', { name: 'Talk with wootz-small' }).waitFor();
    await gone.stop();
    await ask(page, 'hello');
    await page.getByRole('alert').getByText('The server does not answer.').waitFor();
    await page.getByRole('button', { name: 'Retry' }).waitFor();
    const again = await small(new URL(gone.url).port);
    assert.equal(again.url, gone.url);
    await page.getByRole('button', { name: 'Retry' }).click();
    await answer(page);
    await page.locator('.answer').waitFor();
    await done();
  });

  test('a browser without room keeps words before chances', async () => {
    const { page, done } = await open(model);
    await page.evaluate(() => localStorage.setItem('other', 'x'.repeat(5 * 1024 * 1024 - 9000)));
    await ask(page, 'Tell me a story about a cat.');
    await page.getByRole('button', { name: 'Retry' }).waitFor();
    await page.getByText('This browser has little room').waitFor();
    const turn = (await kept(page)).turns.at(-1);
    assert.ok(turn.content.length > 20);
    assert.ok(turn.tokens.every((token) => token.top.length === 0));
    await done();
  });

  test('conversations can be deleted, one and all', async () => {
    const { page, done } = await open(echo, { key: KEY });
    for (const said of ['one', 'two', 'three']) {
      await page.getByRole('button', { name: 'New conversation' }).click();
      await ask(page, said);
      await answer(page);
    }
    await page.getByRole('button', { name: 'Delete “two”' }).focus();
    await page.keyboard.press('Enter');
    assert.deepEqual(await titles(page), ['three', 'one']);
    await page.getByRole('button', { name: 'Delete all…' }).click();
    await page.getByRole('button', { name: 'Delete', exact: true }).last().click();
    assert.deepEqual(await titles(page), []);
    await done();
  });
});

const titles = (page) => page.evaluate(() => JSON.parse(localStorage.getItem('wootz.conversations')).map(({ title }) => title));

describe('how it looks', () => {
  for (const colorScheme of ['light', 'dark']) {
    test(`nothing in ${colorScheme} is beyond assistive programs`, async () => {
      const { page, done } = await open(model, { colorScheme, reducedMotion: 'reduce' });
      await page.getByRole('heading', { name: 'Talk with wootz-small' }).waitFor();
      await accessible(page, 'empty');
      await page.getByText('Exact numbers').click();
      await page.getByText('The request as it is sent').click();
      await page.getByRole('combobox', { name: 'Persona' }).selectOption({ label: 'Editor' });
      await accessible(page, 'settings');
      await ask(page, 'Tell me a story about a cat.');
      await answer(page);
      await accessible(page, 'an answer');
      await page.getByRole('button', { name: 'Tokens', exact: true }).click();
      await tokensOf(page).nth(3).click();
      await accessible(page, 'tokens');
      await page.getByRole('button', { name: 'Prompt', exact: true }).click();
      await page.getByRole('group', { name: 'Prompt', exact: true }).waitFor();
      await accessible(page, 'prompt');
      await page.getByRole('tab', { name: 'Server' }).click();
      await page.getByRole('img', { name: /^Tokens per second/ }).waitFor();
      await accessible(page, 'server');
      await done();
    });
  }

  test('it fits on 390 pixels, and what lies over the page gives the focus back', async () => {
    const { page, done } = await open(model, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
    const fits = async (where) => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 390), where);
    await ask(page, 'Tell me a story about a cat.');
    await answer(page);
    await fits('an answer');
    await page.getByRole('button', { name: 'Tokens', exact: true }).click();
    await tokensOf(page).nth(3).click();
    await fits('tokens');
    await accessible(page, 'narrow');
    const opener = page.getByRole('button', { name: 'Settings, prompt and server' });
    await opener.click();
    await page.getByRole('slider', { name: 'Length' }).waitFor();
    await fits('settings');
    await accessible(page, 'narrow settings');
    await page.keyboard.press('Escape');
    await page.getByRole('slider', { name: 'Length' }).waitFor({ state: 'hidden' });
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Settings, prompt and server');
    await page.getByRole('button', { name: 'Conversations', exact: true }).click();
    await page.getByRole('button', { name: 'New conversation' }).click();
    await page.getByRole('heading', { name: 'Talk with wootz-small' }).waitFor();
    await done();
  });

  test('the theme can be chosen and stays', async () => {
    const { page, done } = await open(model, { colorScheme: 'light' });
    const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const light = await ground();
    await page.getByRole('button', { name: 'Theme: as the system. Change' }).click();
    await page.getByRole('button', { name: 'Theme: light. Change' }).click();
    await page.getByRole('button', { name: 'Theme: dark. Change' }).waitFor();
    assert.notEqual(await ground(), light);
    await page.reload();
    await page.getByRole('button', { name: 'Theme: dark. Change' }).waitFor();
    assert.notEqual(await ground(), light);
    await done();
  });
});
