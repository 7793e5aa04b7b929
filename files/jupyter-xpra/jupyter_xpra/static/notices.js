// Shows on a desktop what its session has to say to the user, such as that its time is over soon. A Jupyter server's
// extension answers with it; the address is the script's own attribute. What was closed is not shown again while it holds.
(() => {
  "use strict";
  const PAUSE_MS = 60_000;
  const { notices: address } = document.currentScript.dataset;
  const CLOSE = navigator.language.startsWith("ru") ? "Закрыть" : "Close";
  const box = Object.assign(document.createElement("div"), { className: "notices" });
  box.setAttribute("role", "status");
  const shown = new Map();

  const make = (name, properties) => Object.assign(document.createElement(name), properties);

  const request = (method, url) => {
    const headers = { "X-XSRFToken": document.cookie.match(/\b_xsrf=([^;]*)/)?.[1] ?? "" };
    return fetch(url, { method, cache: "no-store", headers });
  };

  // Where nothing comes of it, the notice stays.
  const send = async (button, url) => {
    button.disabled = true;
    await request("POST", url).then(update).catch(() => {});
    button.disabled = false;
  };

  const show = ({ id, kind, message, at, label, url, post }) => {
    const time = at && new Date(at).toLocaleTimeString(navigator.language, { timeStyle: "short" });
    const notice = make("div", { className: `notice notice-${kind}` });
    notice.append(make("p", { textContent: message.replace("{time}", time) }));
    if (post) {
      const button = make("button", { type: "button", className: "answer", textContent: label });
      button.addEventListener("click", () => send(button, url));
      notice.append(button);
    } else if (url) {
      notice.append(make("a", { textContent: label, href: url, target: "_blank", rel: "noopener" }));
    }
    const close = make("button", { type: "button", className: "close", textContent: "×", title: CLOSE });
    close.addEventListener("click", () => notice.remove());
    notice.append(close);
    box.append(notice);
    shown.set(id, notice);
  };

  const update = async () => {
    const answer = await request("GET", address);
    if (!answer.ok) {
      return;
    }
    const { notices } = await answer.json();
    for (const notice of notices) {
      if (!shown.has(notice.id)) {
        show(notice);
      }
    }
    for (const [id, notice] of [...shown]) {
      if (!notices.some((other) => other.id === id)) {
        shown.delete(id);
        notice.remove();
      }
    }
  };

  const look = () => {
    if (!document.hidden) {
      // The session may be away for a moment; the next turn tells.
      update().catch(() => {});
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(box);
    look();
    setInterval(look, PAUSE_MS);
    // Back from the page where the link led.
    document.addEventListener("visibilitychange", look);
  });
})();
