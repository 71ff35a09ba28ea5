// A partner at the portal, as it would use it.
'use strict';

const { visit, assert, BOUND_MS } = require('./browser.js');

const PASSWORD = process.env.PARTNER_PASSWORD;
// As long as names may be.
const LONG_NAME = `Clinic-${'x'.repeat(57)}`;

async function signIn(page, name = LONG_NAME, password = PASSWORD) {
  await page.goto('/');
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(password);
  await Promise.all([page.waitForURL('**/*'), page.getByRole('button', { name: 'Sign in', exact: true }).click()]);
}

async function signedIn(browser, { name = LONG_NAME, ...options } = {}) {
  const visitor = await visit(browser, options);
  await signIn(visitor.page, name);
  await visitor.page.getByRole('heading', { name: 'Files', exact: true }).waitFor();
  return visitor;
}

// A file as the web services take it.
async function post(page, name, content, partner = LONG_NAME) {
  const authorization = `Basic ${Buffer.from(`${partner}:${PASSWORD}`).toString('base64')}`;
  const answer = await page.request.post(`/v1/files?name=${encodeURIComponent(name)}`, { headers: { authorization }, data: content });
  assert.equal(answer.status(), 201, await answer.text());
  return answer.json();
}

// Drops files of the disk onto the page, as a file manager does.
async function drop(page, paths) {
  const session = await page.context().newCDPSession(page);
  const at = { x: 200, y: 200, data: { items: [], files: paths, dragOperationsMask: 1 } };
  for (const type of ['dragEnter', 'dragOver', 'drop']) await session.send('Input.dispatchDragEvent', { type, ...at });
  await session.detach();
}

// Waits for a state, with a bound.
async function waitFor(what, met) {
  const end = Date.now() + BOUND_MS;
  for (;;) {
    const seen = await met();
    if (seen) return seen;
    assert.ok(Date.now() < end, `waited in vain: ${what}`);
    await new Promise((done) => { setTimeout(done, 50); });
  }
}

module.exports = { signIn, signedIn, post, drop, waitFor, LONG_NAME, PASSWORD };
