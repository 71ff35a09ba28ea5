// Signing in and out, with a name that is none, a password that is wrong, and the right ones.
'use strict';

const { launch, visit, audit, assert } = require('./browser.js');
const { signIn, LONG_NAME } = require('./partner.js');

(async () => {
  const browser = await launch();
  const visitor = await visit(browser, { expected: [/^console: Failed to load resource: .* 403 /] });
  const { page, context } = visitor;
  await signIn(page, '"><script>alert(1)</script>{{7*7}}', 'wrong');
  assert.equal(await page.getByLabel('Name').inputValue(), '"><script>alert(1)</script>{{7*7}}');
  assert.equal(await page.getByLabel('Password').inputValue(), '');
  assert.match(await page.getByRole('alert').textContent(), /wrong/i);
  await audit(visitor, 'sign-in-failed');

  await signIn(page);
  await page.getByRole('heading', { name: 'Files', exact: true }).waitFor();
  assert.match(await page.textContent('header'), new RegExp(LONG_NAME));
  assert.equal(await page.getByText('No file was sent yet.').isVisible(), true);
  await audit(visitor, 'list-empty');
  assert.equal(await page.evaluate(() => document.cookie), '', 'no script reads the cookie');
  const [cookie] = await context.cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, 'Strict']);

  // Half an hour on, before the session ends unasked.
  await page.clock.install();
  await page.reload();
  const ending = page.getByText(/^You will be signed out soon/);
  assert.equal(await ending.isVisible(), false);
  await page.clock.fastForward('29:00');
  await ending.waitFor();
  await audit(visitor, 'signed-out-soon');
  await page.getByRole('button', { name: 'Stay signed in' }).click();
  await ending.waitFor({ state: 'hidden' });

  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in', exact: true }).waitFor();
  assert.deepEqual(await context.cookies(), []);
  await context.addCookies([cookie]);
  await page.goto('/');
  assert.ok(await page.getByRole('button', { name: 'Sign in', exact: true }).isVisible(), 'the session is over, not only forgotten');
  await page.goto('/out/');
  assert.ok(!(await page.textContent('body')).includes(LONG_NAME), 'nothing else is shown either');
  await audit(visitor, 'not-signed-in');
  await browser.close();
})();
