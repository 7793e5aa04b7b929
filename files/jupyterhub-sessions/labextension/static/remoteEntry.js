// Shows the notices of the session's server (jupyterhub_sessions/notices.py) as JupyterLab's own notifications, in
// JupyterLab 4 and Notebook 7. Written by hand in the form that their loader expects of a prebuilt extension, as it uses
// none of their packages: commands are enough.
(() => {
  "use strict";
  const NAME = "jupyterhub-sessions";
  const PAUSE_MS = 60_000;
  const OPEN = `${NAME}:open`;
  const SEND = `${NAME}:send`;

  const cookie = (name) => document.cookie.match(`\\b${name}=([^;]*)\\b`)?.[1] ?? "";

  const request = async (method, url) => {
    const answer = await fetch(url, { method, headers: { "X-XSRFToken": cookie("_xsrf") } });
    if (!answer.ok) {
      throw new Error(`HTTP ${answer.status}`);
    }
    return answer;
  };

  const text = ({ message, at }) => {
    const time = () => new Date(at).toLocaleTimeString(document.documentElement.lang || undefined, { timeStyle: "short" });
    return at ? message.replace("{time}", time) : message;
  };

  const plugin = {
    id: `${NAME}:notices`,
    description: "Shows the notices of the session's server.",
    autoStart: true,
    activate: (app) => {
      const { commands, serviceManager } = app;
      // What is on display, by the notices' ids. Also what was closed: it is not shown again while it holds.
      const shown = new Map();

      commands.addCommand(OPEN, {
        label: "Open a page",
        execute: ({ url }) => { window.open(url, "_blank", "noopener"); },
      });

      // The button has closed the notice: where nothing came of it, it is shown again by the next turn.
      commands.addCommand(SEND, {
        label: "Send an answer",
        execute: async ({ url, id }) => {
          shown.delete(id);
          await request("POST", url);
        },
      });

      const update = async () => {
        const answer = await request("GET", `${serviceManager.serverSettings.baseUrl}${NAME}/notices`);
        const { notices } = await answer.json();
        for (const notice of notices) {
          if (!shown.has(notice.id)) {
            const actions = notice.url
              ? [{
                label: notice.label, commandId: notice.post ? SEND : OPEN, args: { url: notice.url, id: notice.id },
                displayType: "accent",
              }]
              : [];
            shown.set(notice.id, commands.execute("apputils:notify", {
              message: text(notice), type: notice.kind, options: { autoClose: false, actions },
            }));
          }
        }
        for (const [id, notification] of [...shown]) {
          if (!notices.some((notice) => notice.id === id)) {
            shown.delete(id);
            await commands.execute("apputils:dismiss-notification", { id: await notification });
          }
        }
      };

      const run = async () => {
        if (!document.hidden) {
          // The session may be away for a moment; the next turn tells.
          await update().catch(() => {});
        }
        setTimeout(run, PAUSE_MS);
      };
      app.restored.then(run);
      // Back from the hub's page where the button led.
      document.addEventListener("visibilitychange", () => {
        if (!document.hidden) {
          update().catch(() => {});
        }
      });
    },
  };

  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB[NAME] = {
    init: async () => {},
    get: async () => () => ({ __esModule: true, default: plugin }),
  };
})();
