// The pages of visitors who log in nowhere: open, with maintenance ahead, and closed, whatever an operator has written.
'use strict';

const { launch, visit, audit, assert } = require('./browser.js');
const { closeFor, openAgain, HOSTILE, SENTENCE } = require('./server.js');

(async () => {
  const browser = await launch();
  const visitor = await visit(browser, { expected: [/^console: Failed to load resource: .* 503 /] });
  const { page } = visitor;
  assert.equal((await page.goto('/')).status(), 200);
  await audit(visitor, 'open');

  await closeFor(page, { name: HOSTILE, reason: HOSTILE });
  assert.equal((await page.goto('/')).status(), 503);
  assert.equal(await page.title(), 'Service Unavailable');
  const text = await page.textContent('main');
  assert.ok(text.includes(SENTENCE), text);
  assert.ok(text.includes('<script>alert(1)</script>'), text);
  await audit(visitor, 'closed');

  await openAgain(page);
  assert.equal((await page.goto('/')).status(), 200);
  await browser.close();
})();
