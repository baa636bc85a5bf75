// The light or the dark look: what the system prefers, or what was chosen here. Goes in the head, before the first
// paint. Whoever draws listens for "look".
"use strict";

// What a person chose, for the next visit; in a browser that keeps nothing, for as long as the page is open.
const kept = {
  get(name) {
    try {
      return localStorage.getItem(`streamrnn.${name}`);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`streamrnn.${name}`, value);
    } catch {
      // then not
    }
  },
};

const look = (() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = kept.get("look");
  let printing = false;

  function apply() {
    document.documentElement.dataset.look = printing ? "light" : (chosen ?? (dark.matches ? "dark" : "light"));
    dispatchEvent(new Event("look"));
  }

  dark.addEventListener("change", apply);
  apply();

  return {
    // On paper it is the light one.
    print(begins) {
      printing = begins;
      apply();
    },
    now: () => document.documentElement.dataset.look,
    toggle() {
      chosen = look.now() === "dark" ? "light" : "dark";
      kept.set("look", chosen);
      apply();
    },
  };
})();
