// The gate closes under an upload: what had begun is kept, what had not is not, and the page says which.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const { launch, audit, assert, BOUND_MS } = require('./browser.js');
const { signedIn, drop, waitFor } = require('./partner.js');
const { closeFor, openAgain, HOSTILE, SENTENCE } = require('./server.js');

(async () => {
  const browser = await launch();
  const visitor = await signedIn(browser, { name: 'Slow', expected: [/^console: Failed to load resource: .* 503 /] });
  const { page } = visitor;
  // The first takes eight seconds, long enough for the gate to close meanwhile.
  const paths = ['first.hl7', 'second.hl7'].map((name) => path.join(process.env.BROWSER_PLACE, name));
  for (const [at, one] of paths.entries()) fs.writeFileSync(one, Buffer.alloc((at ? 1 : 160) << 20, one));
  await drop(page, paths);
  const [first, second] = [page.locator('#sending > li').nth(0), page.locator('#sending > li').nth(1)];
  await waitFor('bytes move', () => first.locator('progress').evaluate((bar) => bar.value > 0));
  await closeFor(page, { name: HOSTILE, reason: HOSTILE });

  await first.getByText(/^Kept\./).waitFor({ timeout: 2 * BOUND_MS });
  assert.match(await first.textContent(), /deferred until/);
  await second.getByText(/^Not kept/).waitFor({ timeout: 2 * BOUND_MS });
  assert.match(await second.textContent(), /temporarily unable to service your request/);
  assert.match(await page.getByRole('log').textContent(), /second\.hl7: Not kept/);
  await audit(visitor, 'not-kept');
  assert.ok(await second.isVisible(), 'it stays');

  const other = await page.context().newPage();
  assert.equal((await other.goto('/')).status(), 503);
  assert.ok((await other.textContent('main')).includes(SENTENCE));
  await other.close();

  await openAgain(page);
  await second.getByRole('button', { name: 'Send again' }).click();
  await second.getByText(/^Kept\./).waitFor({ timeout: 2 * BOUND_MS });
  await second.getByRole('button', { name: 'Dismiss' }).click();
  assert.equal(await page.locator('#sending > li').count(), 1, 'dismissed is gone');
  await page.reload();
  for (const name of ['first.hl7', 'second.hl7']) assert.equal(await page.getByRole('link', { name }).count(), 1, name);
  await browser.close();
})();
