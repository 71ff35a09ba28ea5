// 200 MiB by a real drop, with progress that moves, and what is told of it then.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

const { launch, audit, assert, BOUND_MS } = require('./browser.js');
const { signedIn, drop, waitFor } = require('./partner.js');

const MIB = 1 << 20;

function bigFile() {
  const content = crypto.randomBytes(200 * MIB);
  const where = path.join(process.env.BROWSER_PLACE, 'a study of 200 MiB.hl7');
  fs.writeFileSync(where, content);
  return { where, digest: crypto.createHash('sha256').update(content).digest('hex') };
}

(async () => {
  const browser = await launch();
  const visitor = await signedIn(browser, { name: 'Slow' });
  const { page } = visitor;
  const { where, digest } = bigFile();

  const seen = await page.evaluateHandle(() => {
    const values = [];
    const look = () => {
      const bar = document.querySelector('#sending progress');
      if (bar && !bar.hidden && bar.value !== values.at(-1)) values.push(bar.value);
      requestAnimationFrame(look);
    };
    look();
    return values;
  });
  await drop(page, [where]);
  await waitFor('the bar moves', () => seen.evaluate((values) => values.filter((value) => value > 0 && value < 1).length >= 3));
  await audit(visitor, 'sending');
  await page.getByText(/^Kept\./).waitFor({ timeout: 4 * BOUND_MS });
  const values = await seen.jsonValue();
  const between = values.filter((value) => value > 0 && value < 1);
  assert.ok(between.length >= 10, `progress: ${values}`);
  assert.deepEqual(between, [...between].sort((a, b) => a - b), 'it moves forward alone');
  const told = await page.locator('#sending .what').textContent();
  assert.ok(told.includes(digest) && /id [0-9a-f-]{36}/.test(told), told);
  assert.match(await page.getByRole('log').textContent(), /kept/);
  await audit(visitor, 'sent');

  await page.reload();
  await page.getByRole('link', { name: 'a study of 200 MiB.hl7' }).click();
  await page.getByText(digest).waitFor();
  await audit(visitor, 'file');
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: /^Receipt/ }).click()]);
  const receipt = JSON.parse(fs.readFileSync(await download.path(), 'utf8'));
  assert.deepEqual([receipt.sha256, receipt.bytes], [digest, 200 * MIB]);
  await browser.close();
})();
