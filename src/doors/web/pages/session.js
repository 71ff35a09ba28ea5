// Warns before an idle session ends, and lets it go on. (WCAG 2.2, 2.2.1)
"use strict";

const WARN_MS = 2 * 60 * 1000;
const ending = document.getElementById("ending");
const idle = Number(ending.dataset.idleSeconds) * 1000;
let warns;

// Every request of the page puts the end off.
function putOff() {
  clearTimeout(warns);
  ending.hidden = true;
  warns = setTimeout(() => { ending.hidden = false; }, Math.max(idle - WARN_MS, idle / 2));
}

ending.querySelector("button").addEventListener("click", async () => {
  const answer = await fetch("/out/", { headers: { Accept: "text/html" } }).catch(() => undefined);
  if (answer?.ok) putOff();
  else location.assign("/");
});

document.addEventListener("forebay-request", putOff);
putOff();
