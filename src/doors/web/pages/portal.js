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
  if (isSending || list.querySelector(".not-kept")) event.preventDefault();
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
    const outcome = await sent(upload);
    tell(upload, outcome);
    // What ends here would end so for each of the others.
    if (outcome.stops) for (const other of waiting.splice(0)) tell(other, { refused: "it was not sent, for what came before it was refused" });
  }
  isSending = false;
}

// What became of one: { kept } with its receipt, { refused } with the reason, or { unknown } with what stands in the way.
// With `isOver` nothing of its key is left at the server; with `stops` the next one would fare no better.
async function sent({ file, item, key }) {
  if (file.size > largest) {
    return { refused: `it has ${size(file.size)}, and at most ${size(largest)} are taken` };
  }
  if (!(await isReadable(file))) return { refused: "it cannot be read; a folder cannot be sent" };
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/upload?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("Idempotency-Key", key);
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      isUsed();
      show({ item }, { progress: total ? loaded / total : 1 });
      say({ item }, loaded < total ? `${size(loaded)} of ${size(total)}` : "Is being made durable.");
    });
    request.addEventListener("load", () => {
      const answer = parsed(request.responseText);
      if (request.status === 201 && answer?.id) {
        done({ kept: answer, notice: request.getResponseHeader("Forebay-Notice") });
      } else {
        done(notKept(request.status, answer));
      }
    });
    const lost = () => done({ unknown: "the connection ended before an answer came", stops: true });
    request.addEventListener("error", lost);
    request.addEventListener("abort", lost);
    say({ item }, "Is being sent.");
    request.send(file);
  });
}

// What a server that keeps nothing says. One that stops, or stands before ours, may not know; and while a request with the
// same key is under way that one may still be kept.
function notKept(status, answer) {
  const why = reason(answer) ?? `the server answered with status ${status}`;
  const isOurs = answer?.status === status;
  if ((status >= 500 && !isOurs) || answer?.type === "urn:forebay:stopped" || (status === 409 && answer?.field === "Idempotency-Key")) {
    return { unknown: why, stops: status >= 500 };
  }
  return { refused: answer?.until_local ? `${why}. Expected end: ${answer.until_local}` : why, isOver: true, stops: status === 503 || answer?.field === "Cookie" };
}

// A folder that was dropped is a file whose bytes nobody can have.
async function isReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

// An upload is a use of the session, which then does not end.
function isUsed() {
  document.dispatchEvent(new Event("forebay-request"));
}

function tell(upload, { kept, notice, refused, unknown, isOver }) {
  const { file, item } = upload;
  isUsed();
  show(upload, { progress: null });
  if (kept) {
    item.classList.add("kept");
    // Under a temporary name, or held, it is kept and waits for somebody.
    const more = notice ?? (kept.state === "ready" ? undefined : kept.text);
    say(upload, `Kept. ${size(kept.bytes)}, id ${kept.id}\nSHA-256 ${kept.sha256}${more ? `\n${sentence(more)}` : ""}`);
    const link = document.createElement("a");
    link.href = `/files/${encodeURIComponent(kept.id)}`;
    link.textContent = visible(kept.name);
    item.querySelector(".name").replaceChildren(link);
    announce(`${visible(file.name)}: kept.`);
    enlist(kept, notice);
    dismissable(upload);
    return;
  }
  item.classList.add("not-kept");
  const what = unknown
    ? `Not known to be kept: ${sentence(unknown)} Send it again: it is not taken twice.`
    : `Not kept: ${refused}.`;
  say(upload, what);
  announce(`${visible(file.name)}: ${what}`);
  dismissable(upload);
  const again = item.querySelector(".again");
  again.hidden = false;
  if (isOver) upload.key = newKey();
  again.onclick = () => {
    // Its buttons go, and the focus must not go with them.
    item.focus();
    enqueue(upload);
  };
}

// The newest of the list below, as it was a moment ago.
function enlist(kept, notice) {
  const item = document.getElementById("sent-row").content.firstElementChild.cloneNode(true);
  const name = item.querySelector(".name");
  name.href = `/files/${encodeURIComponent(kept.id)}`;
  name.textContent = visible(kept.name);
  item.querySelector(".state").textContent = kept.state;
  item.querySelector(".state").className = `state ${kept.state === "ready" ? "wait" : "warn"}`;
  item.querySelector(".soft").textContent = `Sent now, ${size(kept.bytes)}, over web`;
  item.querySelector(".text").textContent = notice ?? kept.text;
  document.getElementById("none").hidden = true;
  document.getElementById("files").prepend(item);
}

function dismissable({ item }) {
  const dismiss = item.querySelector(".dismiss");
  dismiss.hidden = false;
  dismiss.onclick = () => {
    const beside = item.nextElementSibling ?? item.previousElementSibling ?? input;
    item.remove();
    beside.focus();
  };
}

function show({ item }, { progress }) {
  const bar = item.querySelector("progress");
  bar.hidden = progress === null;
  bar.value = progress ?? 0;
  bar.setAttribute("aria-label", item.querySelector(".name").textContent);
  for (const button of item.querySelectorAll("button")) button.hidden = true;
}

// For those who hear the page: each line is read, and none takes the place of another.
function announce(text) {
  const line = document.createElement("p");
  line.textContent = text;
  told.append(line);
  while (told.childElementCount > 50) told.firstElementChild.remove();
}

function sentence(text) {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return `${text[0].toUpperCase()}${text.slice(1)}${end}`;
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
