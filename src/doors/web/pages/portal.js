// Sends files with progress, one after the other. Without it the form sends one.
"use strict";

const form = document.getElementById("upload");
const input = document.getElementById("file");
const list = document.getElementById("sending");
const row = document.getElementById("sending-row");
const told = document.getElementById("told");
const largest = Number(form.dataset.largest ?? Infinity);
const waiting = [];
let isSending = false;

input.multiple = true;
document.getElementById("drop-hint").hidden = false;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send(input.files);
  form.reset();
});

// Files that are dropped beside would replace the page.
let within = 0;
document.addEventListener("dragenter", (event) => hover(event, 1));
document.addEventListener("dragleave", (event) => hover(event, -1));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  within = 0;
  document.body.classList.remove("dropping");
  send(event.dataTransfer.files);
});

function hover(event, step) {
  event.preventDefault();
  within = Math.max(0, within + step);
  document.body.classList.toggle("dropping", within > 0);
}

addEventListener("beforeunload", (event) => {
  if (isSending) event.preventDefault();
});

function send(files) {
  for (const file of files) {
    const item = row.content.firstElementChild.cloneNode(true);
    item.querySelector(".name").textContent = visible(file.name);
    list.append(item);
    // The key makes it safe to send again what has had no answer.
    enqueue({ file, item, key: newKey() });
  }
}

function enqueue(upload) {
  upload.item.className = "sending";
  say(upload, "Waits for its turn.");
  show(upload, { progress: 0 });
  waiting.push(upload);
  next();
}

async function next() {
  if (isSending) return;
  isSending = true;
  for (let upload = waiting.shift(); upload; upload = waiting.shift()) {
    tell(upload, await sent(upload));
  }
  isSending = false;
}

// What became of one: { kept } with its receipt, { refused } with the reason, or neither when no answer came.
function sent({ file, item, key }) {
  if (file.size > largest) {
    return { refused: `it has ${size(file.size)}, and at most ${size(largest)} are taken` };
  }
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/upload?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("Idempotency-Key", key);
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      show({ item }, { progress: total ? loaded / total : 1 });
      say({ item }, loaded < total ? `${size(loaded)} of ${size(total)}` : "Is being made durable.");
    });
    request.addEventListener("load", () => {
      const answer = parsed(request.responseText);
      if (request.status === 201 && answer?.id) {
        done({ kept: answer, notice: request.getResponseHeader("Forebay-Notice") });
      } else {
        // Nothing of it is kept, so what is sent again is new; unless its key is still in use.
        const isOver = request.status !== 409;
        done({ refused: reason(answer) ?? `the server answered with status ${request.status}`, isOver });
      }
    });
    request.addEventListener("error", () => done({}));
    request.addEventListener("abort", () => done({}));
    say({ item }, "Is being sent.");
    request.send(file);
  });
}

function tell(upload, { kept, notice, refused, isOver }) {
  const { file, item } = upload;
  show(upload, { progress: null });
  if (kept) {
    item.classList.add("kept");
    say(upload, `Kept. ${size(kept.bytes)}, id ${kept.id}\nSHA-256 ${kept.sha256}${notice ? `\n${notice}` : ""}`);
    const link = document.createElement("a");
    link.href = `/files/${encodeURIComponent(kept.id)}`;
    link.textContent = visible(kept.name);
    item.querySelector(".name").replaceChildren(link);
    told.textContent = `${visible(file.name)}: kept.`;
    enlist(kept, notice);
    dismissable(upload);
    return;
  }
  item.classList.add("not-kept");
  const what = refused === undefined
    ? "Not known to be kept: the connection ended before an answer came. Send it again: it is not taken twice."
    : `Not kept: ${refused}.`;
  say(upload, what);
  told.textContent = `${visible(file.name)}: ${what}`;
  dismissable(upload);
  const again = item.querySelector(".again");
  again.hidden = false;
  if (isOver) upload.key = newKey();
  again.onclick = () => enqueue(upload);
}

// The newest of the list below, as it was a moment ago.
function enlist(kept, notice) {
  const item = document.getElementById("sent-row").content.firstElementChild.cloneNode(true);
  const name = item.querySelector(".name");
  name.href = `/files/${encodeURIComponent(kept.id)}`;
  name.textContent = visible(kept.name);
  item.querySelector(".state").textContent = kept.state;
  item.querySelector(".soft").textContent = `Just now, ${size(kept.bytes)}, over web`;
  item.querySelector(".text").textContent = notice ?? kept.text;
  document.getElementById("none").hidden = true;
  document.getElementById("files").prepend(item);
}

function dismissable({ item }) {
  const dismiss = item.querySelector(".dismiss");
  dismiss.hidden = false;
  dismiss.onclick = () => {
    item.remove();
    input.focus();
  };
}

function show({ item }, { progress }) {
  const bar = item.querySelector("progress");
  bar.hidden = progress === null;
  bar.value = progress ?? 0;
  bar.setAttribute("aria-label", item.querySelector(".name").textContent);
  for (const button of item.querySelectorAll("button")) button.hidden = true;
}

function say({ item }, text) {
  item.querySelector(".what").textContent = text;
}

// What is said of a field alone has no subject.
function reason(answer) {
  if (!answer?.detail) return undefined;
  const detail = answer.detail.replace(/\.$/, "");
  return /^(is|stands) /.test(detail) && answer.field ? `the ${answer.field} ${detail}` : detail;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// As names are shown everywhere: what cannot be seen, or turns the order of letters, is escaped.
function visible(name) {
  return name.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit + 1 < units.length) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit ? Number(bytes.toFixed(1)) : bytes} ${units[unit]}`;
}
