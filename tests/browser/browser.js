// A real browser, and what every page has to be: without faults of accessibility, without violations of its own policy, without
// errors in the console, without sideways scrolling, with a focus that is seen.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const MODULES = path.join(__dirname, '../../target/tools/node/node_modules');
const { chromium } = require(path.join(MODULES, 'playwright-core'));
const AXE = fs.readFileSync(path.join(MODULES, 'axe-core/axe.min.js'), 'utf8');

const BASE = process.env.BROWSER_BASE;
const SCREENSHOTS = process.env.BROWSER_SCREENSHOTS;
const BOUND_MS = 30_000;
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const WIDTHS = [1280, 390];
const NARROWEST = 320;

async function launch() {
  const args = ['--no-sandbox', '--disable-dev-shm-usage'];
  return chromium.launch({ executablePath: '/usr/bin/chromium-headless-shell', args });
}

// A page of a fresh profile. `faults` gathers what must not happen; `expected` are patterns of console messages that belong to
// what a test does, such as an answer of 503.
async function visit(browser, { expected = [], ...options } = {}) {
  const context = await browser.newContext({ baseURL: BASE, reducedMotion: 'reduce', viewport: size(1280), ...options });
  context.setDefaultTimeout(BOUND_MS);
  const page = await context.newPage();
  const faults = [];
  const note = (fault) => expected.some((pattern) => pattern.test(fault)) || faults.push(fault);
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) note(`console: ${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => note(`script: ${error.message}`));
  page.on('request', (request) => {
    if (!request.url().startsWith(BASE)) note(`request to elsewhere: ${request.url()}`);
  });
  page.on('dialog', (dialog) => { note(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  await context.exposeBinding('violated', (_source, what) => note(`policy: ${what}`));
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      window.violated(`${event.effectiveDirective} by ${event.blockedURI} at ${event.sourceFile}:${event.lineNumber}`);
    });
  });
  return { context, page, faults, expected };
}

function size(width) {
  return { width, height: width < 600 ? 844 : 900 };
}

// Looks at a page in the state that it is in: pictures in light and dark, wide and narrow, and all that must hold of each.
async function audit({ page, faults }, name, { focus = true } = {}) {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
    for (const width of WIDTHS) {
      await page.setViewportSize(size(width));
      await page.screenshot({ path: path.join(SCREENSHOTS, `${name}-${scheme}-${width}.png`), fullPage: true });
      await accessible(page, `${name}, ${scheme}, ${width} px`);
    }
  }
  await reflows(page, name);
  await page.setViewportSize(size(1280));
  if (focus) await focusIsSeen(page, name);
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  assert.deepEqual(faults, [], name);
}

async function accessible(page, where) {
  await page.evaluate(AXE);
  const found = await page.evaluate((tags) => window.axe.run(document, { runOnly: tags }), RULES);
  const told = found.violations.map((rule) => `${rule.id}: ${rule.help}\n${rule.nodes.map((node) => `  ${node.html}\n  ${node.failureSummary}`).join('\n')}`);
  assert.deepEqual(told, [], where);
  assert.ok(found.passes.some((rule) => rule.id === 'color-contrast'), `${where}: contrasts were looked at`);
}

// WCAG 2.2, 1.4.10: at 320 CSS pixels nothing has to be scrolled sideways.
async function reflows(page, name) {
  await page.setViewportSize({ width: NARROWEST, height: 640 });
  const wide = await page.evaluate((width) => {
    const reaches = (element) => element.getBoundingClientRect().right > width + 0.5 && getComputedStyle(element).position !== 'absolute';
    const all = [...document.querySelectorAll('body *')].filter(reaches).map((element) => element.outerHTML.slice(0, 120));
    return document.documentElement.scrollWidth > width ? [`${document.documentElement.scrollWidth} px`, ...all] : [];
  }, NARROWEST);
  assert.deepEqual(wide, [], `${name} at ${NARROWEST} px`);
}

// WCAG 2.2, 2.1.1, 2.4.7: Tab reaches all that can be used, and it looks another way then.
async function focusIsSeen(page, name) {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
    const usable = await page.evaluate(() => {
      const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest('[inert]') && !element.disabled;
      const groups = new Set();
      const firstOfGroup = (element) => element.type !== 'radio' || (!groups.has(element.name) && groups.add(element.name));
      return [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')]
        .filter((element) => shown(element) && firstOfGroup(element)).length;
    });
    await page.evaluate(() => { document.activeElement?.blur(); window.scrollTo(0, 0); window.getSelection()?.removeAllRanges(); });
    await page.evaluate(() => { window.focused = new Set(); });
    let reached = 0;
    for (let step = 0; step < usable + 5; step += 1) {
      await page.keyboard.press('Tab');
      const at = await page.evaluate(() => {
        const element = document.activeElement;
        // Tab goes on from where the last click was, and behind the end from the beginning.
        if (!element || element === document.body) return {};
        if (window.focused.has(element)) return null;
        window.focused.add(element);
        element.scrollIntoView({ block: 'center' });
        return { html: element.outerHTML.slice(0, 160), isUsable: element.matches('a[href], button, input, select, textarea, summary') };
      });
      if (!at) break;
      if (!at.html) continue;
      if (at.isUsable) reached += 1;
      await looksFocused(page, `${name}, ${scheme}: ${at.html}`);
    }
    await page.evaluate(() => { document.activeElement?.blur(); });
    assert.ok(reached >= usable, `${name}, ${scheme}: Tab reaches ${reached} of ${usable}`);
  }
}

async function looksFocused(page, what) {
  const element = await page.evaluateHandle(() => document.activeElement);
  const shot = async () => page.screenshot({ animations: 'disabled', caret: 'hide' });
  const focused = await shot();
  await element.evaluate((node) => node.blur());
  const without = await shot();
  // The ring of a keyboard, not that of a mouse.
  await element.evaluate((node) => node.focus({ focusVisible: true, preventScroll: true }));
  assert.notDeepEqual(focused, without, `no focus is seen: ${what}`);
}

module.exports = { launch, visit, audit, accessible, assert, BASE, BOUND_MS, SCREENSHOTS };
