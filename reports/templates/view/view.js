// Keys. Everything they do can be done by links too.
"use strict";

const links = Array.from(document.querySelectorAll(".samples a.open"));
let here = -1;

function move(step) {
  if (!links.length) return;
  here = Math.min(links.length - 1, Math.max(0, here + step));
  links[here].focus({ preventScroll: true });
  links[here].closest("tr").scrollIntoView({ block: "nearest" });
}

function follow(link) {
  if (link) link.click();
}

function turn(relation) {
  follow(document.querySelector(`a[rel=${relation}]`));
}

function jump(step) {
  const draws = Array.from(document.querySelectorAll(".draws a"));
  const now = draws.findIndex((draw) => draw.hasAttribute("aria-current"));
  follow(draws[now + step]);
}

function foldThinking() {
  const folded = Array.from(document.querySelectorAll("details.thinking"));
  const open = !folded.every((one) => one.open);
  folded.forEach((one) => { one.open = open; });
}

const search = document.getElementById("q");
const inList = {
  j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
  n: () => turn("next"), p: () => turn("prev"),
  "/": () => { search.focus(); search.select(); },
};
const inSample = {
  j: () => turn("next"), k: () => turn("prev"), ArrowRight: () => jump(1), ArrowLeft: () => jump(-1),
  t: foldThinking, Escape: () => follow(document.getElementById("up")),
};

links.forEach((link, number) => link.addEventListener("focus", () => { here = number; }));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.matches("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key.startsWith("Arrow") && event.target.matches("pre")) return;
  const action = (search ? inList : inSample)[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});
