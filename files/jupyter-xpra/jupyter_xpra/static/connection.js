/* Keep the page of a display connected, and say how it is.
 *
 * Xpra's client gives up after a few attempts and leaves for a form that asks for a server. In place of that: ask the
 * Jupyter server about the display until it answers, and load the page anew, which finds all as it was. What the page
 * needs of the client are three names that its versions 3.1 to 6 share.
 */
/* global XpraClient */
"use strict";

(() => {
  const RETRY_MS = 1000;
  // A page that is refused at once must not load itself again and again.
  const MOST_RETRY_MS = 16000;
  const STEADY_MS = 20000;
  const PICTURE_MS = 500;
  const TRIES = "display-connection-tries";
  const TEXTS = {
    en: {
      lost: "The connection is lost. Connecting again …",
      login: "You are not logged in any more.",
      loginLink: "Log in",
      gone: "This display has ended.",
    },
    ru: {
      lost: "Связь потеряна. Соединяемся снова …",
      login: "Сеанс входа закончился.",
      loginLink: "Войти",
      gone: "Этот дисплей завершён.",
    },
  };
  const text = TEXTS[navigator.language.split("-")[0]] || TEXTS.en;
  const id = location.pathname.match(/\/xpra\/([0-9a-f]{8})\//)[1];
  // Where it is said why a desktop ended, and where it can be started again.
  const home = document.currentScript.dataset.home;
  let notice = null;
  let watching = false;
  let leaving = false;

  function show(message, link) {
    if (!notice) {
      notice = document.createElement("div");
      notice.id = "display-connection";
      notice.setAttribute("role", "status");
      notice.style.cssText =
        "position:fixed;inset:0;z-index:2147483647;display:flex;flex-direction:column;gap:1em;align-items:center;" +
        "justify-content:center;background:rgba(0,0,0,.6);color:#fff;font:16px sans-serif;text-align:center;white-space:pre-wrap";
      document.body.append(notice);
    }
    notice.textContent = message;
    if (link) {
      const button = document.createElement("button");
      button.textContent = link;
      button.style.font = "inherit";
      button.addEventListener("click", () => location.reload());
      notice.append(button);
    }
  }

  function ended(message) {
    if (home) {
      // The page around it, where scale.js has put it into a frame.
      window.parent.location.replace(new URL(home, location.href));
    } else {
      show(message);
    }
  }

  async function ask() {
    // JupyterHub wants the token with every request by a script, also if it only reads.
    const headers = { "X-XSRFToken": document.cookie.match(/\b_xsrf=([^;]*)/)?.[1] ?? "" };
    const signal = AbortSignal.timeout(10 * RETRY_MS);
    let answer;
    try {
      answer = await fetch(`../api/displays/${id}`, { cache: "no-store", headers, signal });
    } catch {
      return false;
    }
    if (answer.status === 401 || answer.status === 403) {
      show(text.login, text.loginLink);
      return true;
    }
    // 424 is JupyterHub's answer for a server that was stopped.
    if (answer.status === 404 || answer.status === 424) {
      ended(text.gone);
      return true;
    }
    if (!answer.ok) {
      return false;
    }
    const display = await answer.json();
    if (display.state === "running") {
      location.reload();
    } else {
      ended([text.gone, display.reason].join("\n"));
    }
    return true;
  }

  async function lost() {
    if (watching || leaving) {
      return;
    }
    watching = true;
    show(text.lost);
    const tries = Number(sessionStorage.getItem(TRIES));
    sessionStorage.setItem(TRIES, String(tries + 1));
    const delay = Math.min(RETRY_MS * 2 ** tries, MOST_RETRY_MS);
    do {
      await new Promise((resolve) => setTimeout(resolve, delay));
    } while (!leaving && !(await ask()));
  }

  window.addEventListener("pagehide", () => (leaving = true));
  document.addEventListener("connection-lost", lost);
  setTimeout(() => watching || sessionStorage.removeItem(TRIES), STEADY_MS);
  const connect = XpraClient.prototype.connect;
  XpraClient.prototype.connect = function (...args) {
    this.reconnect = false;
    this.reconnect_count = 0;
    this.callback_close = lost;
    // Xpra 3.1 loses a desktop's first picture where its screen does not get the size that the client asked for.
    const refresh = () => Object.keys(this.id_to_window).forEach((id) => this.request_refresh(Number(id)));
    const established = () => this.server_is_desktop && setTimeout(refresh, PICTURE_MS);
    document.addEventListener("connection-established", established, { once: true });
    return connect.apply(this, args);
  };
})();
