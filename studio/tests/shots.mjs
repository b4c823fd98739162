// Screenshots of every view, to be looked at: `npm run shots -- http://127.0.0.1:8080 FOLDER`.

import { existsSync } from 'node:fs';

import { chromium } from 'playwright-core';

const [url = 'http://127.0.0.1:8080', folder = 'screenshots'] = process.argv.slice(2);
const executablePath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => path && existsSync(path));
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });

/** Walks through the page and takes a picture of each place. */
async function walk(name, options) {
  const page = await (await browser.newContext({ reducedMotion: 'reduce', ...options })).newPage();
  const shot = (place) => page.screenshot({ path: `${folder}/${name}-${place}.png` });
  const button = (name) => page.getByRole('button', { name, exact: true });
  const narrow = options.viewport.width < 900;
  const done = () => button('Send').waitFor();
  await page.goto(url);
  await page.getByRole('heading', { name: /^Talk with/ }).waitFor();
  await page.waitForTimeout(300);
  await shot('empty');
  await page.locator('section li button').first().click();
  await button('Retry').waitFor();
  await shot('answer');
  await button('Tokens').click();
  await page.getByRole('listbox', { name: 'Tokens' }).getByRole('option').nth(7).click();
  await page.waitForTimeout(200);
  await shot('tokens');
  await page.locator('.choice:not(:disabled)').nth(1).click();
  await button('Retry').waitFor();
  await shot('branch');
  await button('Prompt').click();
  await page.getByRole('group', { name: 'Prompt', exact: true }).waitFor();
  await shot('prompt');
  await page.getByRole('tab', { name: 'Settings' }).click();
  await page.getByText('Exact numbers').click();
  await page.getByRole('combobox', { name: 'Persona' }).selectOption({ index: 2 });
  await shot('settings');
  await page.getByRole('tab', { name: 'Server' }).click();
  if (!narrow) {
    for (let i = 0; i < 6; i += 1) {
      await button('Retry').last().click();
      await page.waitForTimeout(1600);
      await done();
    }
  }
  await page.waitForTimeout(1500);
  await shot('server');
  if (narrow) await page.keyboard.press('Escape');
  await page.getByRole('textbox', { name: 'Message', exact: true }).fill('word '.repeat(2500));
  await button('Send').click();
  await page.getByRole('alert').first().waitFor();
  await shot('error');
  await page.context().close();
}

await walk('light', { viewport: { width: 1360, height: 860 }, colorScheme: 'light' });
await walk('dark', { viewport: { width: 1360, height: 860 }, colorScheme: 'dark' });
await walk('narrow', { viewport: { width: 390, height: 844 }, colorScheme: 'light', hasTouch: true, isMobile: true });
await browser.close();
