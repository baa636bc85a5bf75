// The light or the dark look: what the system prefers, or what was chosen here. Goes in the head, before the first
// paint. Whoever draws listens for "look".
"use strict";

const look = (() => {
  const KEY = "streamrnn.look";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = stored();

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // a browser that keeps nothing
    }
  }

  function apply() {
    document.documentElement.dataset.look = chosen ?? (dark.matches ? "dark" : "light");
    dispatchEvent(new Event("look"));
  }

  dark.addEventListener("change", apply);
  apply();

  return {
    now: () => document.documentElement.dataset.look,
    toggle() {
      chosen = look.now() === "dark" ? "light" : "dark";
      try {
        localStorage.setItem(KEY, chosen);
      } catch {
        // then it lasts as long as the page
      }
      apply();
    },
  };
})();
