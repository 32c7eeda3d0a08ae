/* Follow the daemon, and tell the parts of the page that are marked as live to ask again. No framework but htmx. */
"use strict";

const body = document.body;
const connection = document.getElementById("connection");
const AGAIN = 3000;
let source = null;

function tell(text, lost) {
  connection.textContent = text;
  connection.classList.toggle("lost", lost);
}

function changed() {
  if (document.querySelector("[data-reload]")) {
    location.reload();
  } else {
    htmx.trigger(body, "live");
  }
}

function follow() {
  if (source !== null || document.hidden) return;
  source = new EventSource(body.dataset.follow);
  source.onopen = () => tell(body.dataset.liveText, false);
  source.addEventListener("changed", changed);
  source.addEventListener("end", () => location.reload());
  source.onerror = () => {
    tell(body.dataset.lost, true);
    if (source !== null && source.readyState === EventSource.CLOSED) {
      leave();
      setTimeout(follow, AGAIN);
    }
  };
}

function leave() {
  if (source !== null) source.close();
  source = null;
}

if (body.dataset.follow) {
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", follow);
  follow();
}

/* A part that is being read or written in stays as it is: a selection or a text would be lost. What is unfolded stays so. */
function inUse(part) {
  const selection = document.getSelection();
  const selected = !selection.isCollapsed && part.contains(selection.anchorNode);
  const written = [...part.querySelectorAll("input:not([type=hidden]), textarea")].some(
    (field) => field === document.activeElement || field.value !== field.defaultValue,
  );
  return selected || written;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target.dataset.live !== undefined && inUse(event.target)) event.preventDefault();
});

let unfolded = [];
document.addEventListener("htmx:beforeSwap", (event) => {
  unfolded = [...event.target.querySelectorAll("details[id][open]")].map((one) => one.id);
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
  offerCopies();
});

function offerCopies() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button === null) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  const before = button.textContent;
  button.textContent = body.dataset.copied;
  setTimeout(() => (button.textContent = before), 1500);
});

offerCopies();
