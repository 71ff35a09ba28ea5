// The same without script: signing in, sending, the list, a download, signing out.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const { launch, visit, audit, assert } = require('./browser.js');
const { signIn } = require('./partner.js');

// axe-core is a script, so it looks at the same page where nothing but the page's own script is kept from running.
async function auditTwin(browser, { page, context }, name) {
  const twin = await visit(browser, { storageState: await context.storageState() });
  await twin.page.route(/\.js$/, (route) => route.fulfill({ contentType: 'text/javascript', body: '' }));
  await twin.page.goto(page.url());
  await audit(twin, name);
  await twin.context.close();
}

(async () => {
  const browser = await launch();
  const visitor = await visit(browser, { javaScriptEnabled: false, expected: [/^console: Failed to load resource: .* 403 /] });
  const { page } = visitor;
  await signIn(page, 'Clinic', 'wrong');
  assert.match(await page.getByRole('alert').textContent(), /wrong/i);
  await signIn(page, 'Clinic');
  assert.equal(await page.getByText('drop files').isVisible(), false, 'what needs script is not offered');
  await auditTwin(browser, visitor, 'no-script-list');

  const file = path.join(process.env.BROWSER_PLACE, 'plain form.later');
  fs.writeFileSync(file, 'MSH|');
  await page.getByLabel('File', { exact: true }).setInputFiles(file);
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.getByText('Kept.').waitFor();
  assert.equal(await page.getByRole('heading', { level: 1 }).textContent(), 'plain form.later');
  await auditTwin(browser, visitor, 'no-script-kept');

  await page.getByRole('link', { name: 'All files' }).click();
  assert.equal(await page.locator('#files a.name').textContent(), 'plain form.later');
  assert.equal(await page.getByText('No file was sent yet.').isVisible(), false);
  await page.getByRole('link', { name: 'For you' }).click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: /NOTICE/ }).click()]);
  assert.match(fs.readFileSync(await download.path(), 'utf8'), /You can upload at any time/);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Password').waitFor();
  await browser.close();
})();
