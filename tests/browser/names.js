// Names that are markup, quotes, braces and letters that turn the order: names they stay, on every page and in every state.
'use strict';

const { launch, audit, assert } = require('./browser.js');
const { signedIn, post, waitFor } = require('./partner.js');

const NAMES = [
  '<script>alert(1)<\u2215script>.hl7',
  '<img src=x onerror=alert(1)>.hl7',
  '"double" \'single\' `back` & {{7*7}} {% raw %}.hl7',
  '\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627.hl7',
  `${'W'.repeat(200)}.hl7`,
  'javascript:alert(1).hl7',
  'quarantined <b>.bad',
  'waits.later',
  'no one wants it.unknown',
  'unfinished.part',
];
const TURNED = 'photo\u202egpj.exe.hl7';

(async () => {
  const browser = await launch();
  const visitor = await signedIn(browser, { expected: [/^console: Failed to load resource: .* 40[04] /, /^dialog: $/] });
  const { page } = visitor;
  const files = [...NAMES, TURNED].map((name) => ({ name, mimeType: 'text/plain', buffer: Buffer.from(`of ${name}`) }));
  await page.getByLabel('File', { exact: true }).setInputFiles(files);
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await waitFor('all are told', async () => await page.locator('#sending > li:is(.kept, .not-kept)').count() === files.length);
  const refused = await page.locator('#sending > li.not-kept').allTextContents();
  assert.deepEqual([refused.length, await page.locator('#sending > li.kept').count()], [1, NAMES.length], refused.join('\n'));
  assert.match(refused[0], /photo\\u\{202e\}gpj\.exe\.hl7\s+Not kept: .*turns the direction/);
  await audit(visitor, 'names-sent', { focus: false });
  // A page is not left by mistake while it tells of a failure.
  await assert.rejects(page.goto('/'), 'it stays');
  await page.locator('#sending > li.not-kept').getByRole('button', { name: 'Dismiss' }).click();

  // The list as the server makes it, when the processors are done.
  await waitFor('they are processed', async () => {
    await page.goto('/');
    return await page.locator('#files .state', { hasText: 'quarantined' }).count() === 1
      && await page.locator('#files .state', { hasText: 'done' }).count() === 6;
  });
  await audit(visitor, 'names');
  const shown = await page.locator('#files a.name').allTextContents();
  for (const name of NAMES) assert.ok(shown.includes(name), `${name} in ${shown.join('\n')}`);
  for (const [at, name] of ['<script>', '<img'].entries()) {
    await page.goto('/');
    await page.locator('#files a.name', { hasText: name }).click();
    await page.getByRole('heading', { level: 1, name }).waitFor();
    await audit(visitor, `names-file-${at}`);
  }

  await page.getByRole('link', { name: 'For you' }).click();
  await audit(visitor, 'out');
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: /NOTICE/ }).click()]);
  assert.match(require('node:fs').readFileSync(await download.path(), 'utf8'), /You can upload at any time/);
  await page.getByRole('link', { name: /^Show receipts/ }).click();
  await page.getByRole('link', { name: /receipt\.json/ }).first().waitFor();
  await audit(visitor, 'out-receipts', { focus: false });

  // A file that is not there, and the second page of a long list.
  await page.goto('/files/00000000-0000-7000-8000-000000000000');
  await audit(visitor, 'refused');
  for (let count = 0; count < 30; count += 1) await post(page, `many-${count}.later`, 'x');
  await page.goto('/');
  await page.getByRole('link', { name: 'Older files' }).click();
  await page.getByRole('link', { name: 'Newest' }).waitFor();
  await audit(visitor, 'older', { focus: false });
  await browser.close();
})();
