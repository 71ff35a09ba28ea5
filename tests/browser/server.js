// The server that a browser visits, as its operator has it in hand.
'use strict';

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const { assert, BOUND_MS } = require('./browser.js');

const CONFIG = process.env.FOREBAY_CONFIG;
const SENTENCE = 'The server is temporarily unable to service your request due to maintenance downtime or capacity problems. Please try again later.';
// Markup, quotes, a template's braces, a right-to-left override, another script, and a word that does not fit into a line.
const HOSTILE = '<script>alert(1)</script> "double" \'single\' & {{7*7}} \u202egnp.exe \u05e9\u05dc\u05d5\u05dd Wartungsfensterverlängerungsankündigungsschreibenempfänger';

function forebay(...verb) {
  return execFileSync(process.env.FOREBAY, ['--config', CONFIG, ...verb], { encoding: 'utf8' });
}

// A window of the schedule that is closed now.
async function closeFor(page, { name, reason }) {
  const at = (hours) => new Date(Date.now() + hours * 3_600_000).toISOString().slice(0, 19).replace('T', ' ');
  const text = (value) => JSON.stringify(value);
  const window = `timezone = "UTC"\n[[window]]\nname = ${text(name)}\nreason = ${text(reason)}\nstart = "${at(-1)}"\nend = "${at(2)}"\n`;
  fs.writeFileSync(path.join(path.dirname(CONFIG), 'maintenance.toml'), window);
  await faceTurns(page, 503);
}

async function openAgain(page) {
  forebay('gate', 'open', '--reason', 'done');
  await faceTurns(page, 200);
}

async function faceTurns(page, status) {
  const end = Date.now() + BOUND_MS;
  for (;;) {
    const answer = await page.request.get('/', { headers: { accept: 'text/html' } });
    if (answer.status() === status) return;
    assert.ok(Date.now() < end, `the page turns to ${status}: ${answer.status()}`);
  }
}

module.exports = { forebay, closeFor, openAgain, HOSTILE, SENTENCE };
