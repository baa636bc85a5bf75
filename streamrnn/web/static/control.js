// Changes that a page asks of the daemon, with the token that its operator gave it.
"use strict";

const control = (() => {
  const KEY = "streamrnn.token";
  let known = null;
  try {
    known = sessionStorage.getItem(KEY); // until the tab is closed
  } catch {
    // then until the page is
  }

  function remember(token) {
    known = token;
    try {
      if (token) sessionStorage.setItem(KEY, token);
      else sessionStorage.removeItem(KEY);
    } catch {
      // as above
    }
  }

  // Asks the reader for the token; null where none was given.
  function ask(why) {
    const dialog = charts.element("dialog", "token");
    const form = charts.element("form");
    const label = charts.element("label", "field");
    const input = charts.element("input");
    input.type = "password";
    input.autocomplete = "off";
    input.required = true;
    input.pattern = "\\s*[!-~]+\\s*"; // what a header can say
    label.append(charts.element("span", "", "Token"), input);
    const words = "What stands in the daemon's http.token_file. It is kept until this tab is closed.";
    const buttons = charts.element("div", "bar");
    const cancel = charts.element("button", "", "cancel");
    cancel.type = "button";
    buttons.append(charts.element("button", "", "go on"), cancel);
    const title = charts.element("h2", "", why);
    title.id = "token-title";
    dialog.setAttribute("aria-labelledby", title.id);
    form.append(title, charts.element("p", "muted", words), label, buttons);
    dialog.append(form);
    document.body.append(dialog);
    return new Promise((answer) => {
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        dialog.close(input.value.trim());
      });
      cancel.addEventListener("click", () => dialog.close(""));
      dialog.addEventListener("close", () => {
        dialog.remove();
        answer(dialog.returnValue || null);
      });
      dialog.showModal();
    });
  }

  /**
   * Has the daemon change something; gives what it answers. Throws an Error that says what was wrong; its `givenUp` is
   * true where the reader gave no token.
   */
  async function post(path, body) {
    for (let why = "The daemon asks for its token"; ; why = "That is not the daemon's token") {
      if (!known) {
        const given = await ask(why);
        if (!given) throw Object.assign(new Error("nothing was changed"), { givenUp: true });
        remember(given);
      }
      const answer = await fetch(path, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${known}` },
        body: JSON.stringify(body),
      });
      if (answer.status === 401) {
        remember(null);
        continue;
      }
      const said = await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Error(said.error ?? `the daemon answered ${answer.status}`);
      return said;
    }
  }

  return { post };
})();
