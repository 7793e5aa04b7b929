// Built from frontend/ by `npm run build`: change it there.
"use strict";
(() => {
  var __create = Object.create;
  var __defProp = Object.defineProperty;
  var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
  var __getOwnPropNames = Object.getOwnPropertyNames;
  var __getProtoOf = Object.getPrototypeOf;
  var __hasOwnProp = Object.prototype.hasOwnProperty;
  var __esm = (fn, res, err) => function __init() {
    if (err) throw err[0];
    try {
      return fn && (res = (0, fn[__getOwnPropNames(fn)[0]])(fn = 0)), res;
    } catch (e) {
      throw err = [e], e;
    }
  };
  var __commonJS = (cb, mod) => function __require() {
    try {
      return mod || (0, cb[__getOwnPropNames(cb)[0]])((mod = { exports: {} }).exports, mod), mod.exports;
    } catch (e) {
      throw mod = 0, e;
    }
  };
  var __export = (target, all) => {
    for (var name in all)
      __defProp(target, name, { get: all[name], enumerable: true });
  };
  var __copyProps = (to, from, except, desc) => {
    if (from && typeof from === "object" || typeof from === "function") {
      for (let key of __getOwnPropNames(from))
        if (!__hasOwnProp.call(to, key) && key !== except)
          __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
    }
    return to;
  };
  var __toESM = (mod, isNodeMode, target) => (target = mod != null ? __create(__getProtoOf(mod)) : {}, __copyProps(
    // If the importer is in node compatibility mode or this is not an ESM
    // file that has been converted to a CommonJS file using a Babel-
    // compatible transform (i.e. "__esModule" has not been set), then set
    // "default" to the CommonJS "module.exports" for node compatibility.
    isNodeMode || !mod || !mod.__esModule ? __defProp(target, "default", { value: mod, enumerable: true }) : target,
    mod
  ));

  // <define:SHARED>
  var define_SHARED_default;
  var init_define_SHARED = __esm({
    "<define:SHARED>"() {
      define_SHARED_default = ["@jupyterlab/application", "@jupyterlab/apputils", "@jupyterlab/coreutils", "@jupyterlab/launcher", "@jupyterlab/mainmenu", "@jupyterlab/running", "@jupyterlab/services", "@jupyterlab/settingregistry", "@jupyterlab/translation", "@jupyterlab/ui-components", "@lumino/signaling", "@lumino/widgets", "react"];
    }
  });

  // frontend/tokens.ts
  var NAME, PLUGIN, DOMAIN, EVENT_SCHEMA, CONTEXT, CommandIDs;
  var init_tokens = __esm({
    "frontend/tokens.ts"() {
      "use strict";
      init_define_SHARED();
      NAME = "jupyter-xpra";
      PLUGIN = `${NAME}:plugin`;
      DOMAIN = "jupyter_xpra";
      EVENT_SCHEMA = "https://events.jupyter.org/jupyter_xpra/display/v1";
      CONTEXT = "display:";
      CommandIDs = {
        /** Start a display: `program`, `command` or neither. */
        create: "display:create",
        /** Ask for a command, and start a display with it. */
        runCommand: "display:run-command",
        /** Show a display by its `id`. */
        open: "display:open",
        /** Show the display at hand in a tab of the browser. */
        openInBrowser: "display:open-in-browser",
        rename: "display:rename",
        stop: "display:stop",
        stopAll: "display:stop-all",
        showLog: "display:show-log"
      };
    }
  });

  // shared:@jupyterlab/application
  var require_application = __commonJS({
    "shared:@jupyterlab/application"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@jupyterlab/application");
    }
  });

  // shared:@jupyterlab/apputils
  var require_apputils = __commonJS({
    "shared:@jupyterlab/apputils"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@jupyterlab/apputils");
    }
  });

  // shared:@jupyterlab/launcher
  var require_launcher = __commonJS({
    "shared:@jupyterlab/launcher"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@jupyterlab/launcher");
    }
  });

  // shared:@jupyterlab/mainmenu
  var require_mainmenu = __commonJS({
    "shared:@jupyterlab/mainmenu"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@jupyterlab/mainmenu");
    }
  });

  // shared:@jupyterlab/running
  var require_running = __commonJS({
    "shared:@jupyterlab/running"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@jupyterlab/running");
    }
  });

  // shared:@jupyterlab/settingregistry
  var require_settingregistry = __commonJS({
    "shared:@jupyterlab/settingregistry"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@jupyterlab/settingregistry");
    }
  });

  // shared:@jupyterlab/translation
  var require_translation = __commonJS({
    "shared:@jupyterlab/translation"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@jupyterlab/translation");
    }
  });

  // shared:@lumino/widgets
  var require_widgets = __commonJS({
    "shared:@lumino/widgets"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@lumino/widgets");
    }
  });

  // frontend/dialogs.ts
  var import_apputils, import_widgets, showLog, confirmStop;
  var init_dialogs = __esm({
    "frontend/dialogs.ts"() {
      "use strict";
      init_define_SHARED();
      import_apputils = __toESM(require_apputils(), 1);
      import_widgets = __toESM(require_widgets(), 1);
      showLog = async (trans, title, message, log) => {
        const body = new import_widgets.Widget();
        body.addClass("jp-Display-log");
        const paragraph = document.createElement("p");
        paragraph.textContent = message;
        body.node.append(paragraph);
        if (log) {
          const lines = document.createElement("pre");
          lines.textContent = log;
          lines.tabIndex = 0;
          lines.setAttribute("aria-label", trans.__("The end of its log"));
          body.node.append(lines);
          requestAnimationFrame(() => {
            lines.scrollTop = lines.scrollHeight;
          });
        }
        await (0, import_apputils.showDialog)({ title, body, buttons: [import_apputils.Dialog.okButton({ label: trans.__("Close") })] });
      };
      confirmStop = async (trans, title) => {
        const answer = await (0, import_apputils.showDialog)({
          title,
          body: trans.__("The programs in it end, and what they have not saved is lost."),
          buttons: [
            import_apputils.Dialog.cancelButton({ label: trans.__("Cancel") }),
            import_apputils.Dialog.warnButton({ label: trans.__("Stop") })
          ]
        });
        return answer.button.accept;
      };
    }
  });

  // shared:@lumino/signaling
  var require_signaling = __commonJS({
    "shared:@lumino/signaling"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@lumino/signaling");
    }
  });

  // shared:@jupyterlab/coreutils
  var require_coreutils = __commonJS({
    "shared:@jupyterlab/coreutils"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@jupyterlab/coreutils");
    }
  });

  // shared:@jupyterlab/services
  var require_services = __commonJS({
    "shared:@jupyterlab/services"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@jupyterlab/services");
    }
  });

  // frontend/request.ts
  var import_coreutils, import_services, RefusedError, Requests;
  var init_request = __esm({
    "frontend/request.ts"() {
      "use strict";
      init_define_SHARED();
      import_coreutils = __toESM(require_coreutils(), 1);
      import_services = __toESM(require_services(), 1);
      RefusedError = class extends Error {
        constructor(message, status, word, log) {
          super(message);
          this.status = status;
          this.word = word;
          this.log = log;
        }
        status;
        word;
        log;
      };
      Requests = class {
        constructor(settings) {
          this.settings = settings;
        }
        settings;
        status() {
          return this.json("status");
        }
        async list() {
          return (await this.json("displays")).displays;
        }
        create(wish) {
          return this.json("displays", { method: "POST", body: JSON.stringify(wish) });
        }
        rename(id, name) {
          return this.json(`displays/${id}`, { method: "PATCH", body: JSON.stringify({ name }) });
        }
        async remove(id) {
          await this.ask(`displays/${id}`, { method: "DELETE" });
        }
        usage(id) {
          return this.json(`displays/${id}/usage`);
        }
        async thumbnail(id) {
          return (await this.ask(`displays/${id}/thumbnail`)).blob();
        }
        async json(path, init = {}) {
          return await (await this.ask(path, init)).json();
        }
        async ask(path, init = {}) {
          const url = import_coreutils.URLExt.join(this.settings.baseUrl, "xpra/api", path);
          const answer = await import_services.ServerConnection.makeRequest(url, init, this.settings);
          if (!answer.ok) {
            const said = await answer.json().catch(() => ({}));
            throw new RefusedError(said.message ?? answer.statusText, answer.status, said.cause ?? "", said.log ?? "");
          }
          return answer;
        }
      };
    }
  });

  // frontend/displays.ts
  var import_signaling, Displays;
  var init_displays = __esm({
    "frontend/displays.ts"() {
      "use strict";
      init_define_SHARED();
      import_signaling = __toESM(require_signaling(), 1);
      init_request();
      init_tokens();
      Displays = class {
        constructor(requests, events) {
          this.requests = requests;
          events.stream.connect((_sender, event) => {
            if (event.schema_id === EVENT_SCHEMA) {
              this.take(event);
            }
          });
          window.addEventListener("online", () => void this.refresh());
          document.addEventListener("visibilitychange", () => {
            if (!document.hidden) {
              void this.refresh();
            }
          });
          this.ready = this.refresh();
        }
        requests;
        ready;
        displays = /* @__PURE__ */ new Map();
        _changed = new import_signaling.Signal(this);
        _died = new import_signaling.Signal(this);
        /** Those that `create` has answered with, so that no two of its calls take the same for theirs. */
        claimed = /* @__PURE__ */ new Set();
        get changed() {
          return this._changed;
        }
        get died() {
          return this._died;
        }
        list() {
          return [...this.displays.values()];
        }
        get(id) {
          return this.displays.get(id);
        }
        async create(wish) {
          const known = new Set(this.displays.keys());
          let look;
          const seen = new Promise((resolve) => {
            look = (_sender, event) => {
              const display = event?.display;
              if (display?.state === "running" && !known.has(display.id) && !this.claimed.has(display.id) && display.program === (wish.program ?? null)) {
                resolve(display);
              }
            };
            this._changed.connect(look);
          });
          const answered = this.requests.create(wish);
          try {
            const display = await Promise.race([seen, answered]);
            this.claimed.add(display.id);
            return display;
          } finally {
            if (look) {
              this._changed.disconnect(look);
            }
            answered.catch(() => void 0);
          }
        }
        async rename(id, name) {
          await this.requests.rename(id, name);
        }
        async stop(id) {
          try {
            await this.requests.remove(id);
          } catch (error) {
            if (!(error instanceof RefusedError) || error.status !== 404) {
              throw error;
            }
          }
        }
        async stopAll() {
          await Promise.all(this.list().map(({ id }) => this.stop(id)));
        }
        async refresh() {
          let list;
          try {
            list = await this.requests.list();
          } catch {
            return;
          }
          const before = new Map(this.displays);
          this.displays.clear();
          for (const display of list) {
            this.displays.set(display.id, display);
            if (before.get(display.id)?.state === "running" && display.state === "failed") {
              this._died.emit(display);
            }
          }
          this._changed.emit(null);
        }
        take(event) {
          const { action, display } = event;
          const before = this.displays.get(display.id);
          if (action === "removed") {
            this.displays.delete(display.id);
          } else {
            this.displays.set(display.id, display);
          }
          if (before?.state === "running" && display.state === "failed") {
            this._died.emit(display);
          }
          this._changed.emit(event);
        }
      };
    }
  });

  // shared:@jupyterlab/ui-components
  var require_ui_components = __commonJS({
    "shared:@jupyterlab/ui-components"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("@jupyterlab/ui-components");
    }
  });

  // frontend/display.svg
  var display_default;
  var init_display = __esm({
    "frontend/display.svg"() {
      display_default = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">\n  <g class="jp-icon3 jp-icon-selectable" fill="#616161">\n    <path fill-rule="evenodd" d="M4 4h16a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2h-6v2h2v1.5H8V20h2v-2H4a2 2 0 0 1-2-2V6c0-1.1.9-2 2-2zm0 1.5a.5.5 0 0 0-.5.5v10c0 .3.2.5.5.5h16a.5.5 0 0 0 .5-.5V6a.5.5 0 0 0-.5-.5z"/>\n    <path fill-rule="evenodd" d="M6 8h8v6H6zm1.2 2.2v2.6h5.6v-2.6zM15.200 8H18v4h-2.800z"/>\n  </g>\n</svg>\n';
    }
  });

  // frontend/icons.ts
  var import_ui_components, displayIcon, programIcon;
  var init_icons = __esm({
    "frontend/icons.ts"() {
      "use strict";
      init_define_SHARED();
      import_ui_components = __toESM(require_ui_components(), 1);
      init_display();
      init_tokens();
      displayIcon = new import_ui_components.LabIcon({ name: `${NAME}:display`, svgstr: display_default });
      programIcon = ({ name, icon }) => {
        const svg = icon.trim();
        if (!svg) {
          return displayIcon;
        }
        if (svg.startsWith("<")) {
          return new import_ui_components.LabIcon({ name: `${NAME}:program-${name}`, svgstr: svg });
        }
        const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
        image.setAttribute("href", svg);
        image.setAttribute("width", "24");
        image.setAttribute("height", "24");
        const frame = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        frame.setAttribute("viewBox", "0 0 24 24");
        frame.append(image);
        return new import_ui_components.LabIcon({ name: `${NAME}:program-${name}`, svgstr: new XMLSerializer().serializeToString(frame) });
      };
    }
  });

  // shared:react
  var require_react = __commonJS({
    "shared:react"(exports, module) {
      init_define_SHARED();
      init_remote();
      module.exports = shared.get("react");
    }
  });

  // frontend/texts.ts
  var explain;
  var init_texts = __esm({
    "frontend/texts.ts"() {
      "use strict";
      init_define_SHARED();
      explain = (trans, english, cause, sentence) => {
        const sentences = {
          closed: trans.__("Its program was closed."),
          "disk-full": trans.__("The disk is full. Delete some files first."),
          idle: trans.__("Nobody used it for a while."),
          orphaned: trans.__("The Jupyter server was away for too long."),
          packages: trans.__("Packages are missing on the server. Tell its administrator."),
          program: trans.__("Its program failed."),
          stopped: trans.__("It was stopped."),
          supervisor: trans.__("It was ended from outside."),
          "too-many": trans.__("No more displays can be had at a time. Stop one first."),
          timeout: trans.__("It did not start in time."),
          "x-server": trans.__("Its X server ended unexpectedly."),
          xpra: trans.__("Xpra ended unexpectedly.")
        };
        return english ? sentence : sentences[cause] ?? sentence;
      };
    }
  });

  // frontend/running.ts
  var import_signaling2, import_react, FRESH_MS, PICTURE_MS, MOST_TRIES, MEBIBYTE, isShown, RunningDisplays;
  var init_running = __esm({
    "frontend/running.ts"() {
      "use strict";
      init_define_SHARED();
      import_signaling2 = __toESM(require_signaling(), 1);
      import_react = __toESM(require_react(), 1);
      init_texts();
      init_tokens();
      FRESH_MS = 15e3;
      PICTURE_MS = 1500;
      MOST_TRIES = 8;
      MEBIBYTE = 2 ** 20;
      isShown = () => [...document.querySelectorAll(".jp-RunningSessions")].some((panel) => panel.checkVisibility());
      RunningDisplays = class {
        constructor(displays, requests, actions, translator) {
          this.displays = displays;
          this.requests = requests;
          this.actions = actions;
          this.trans = translator.load(DOMAIN);
          const language = translator.languageCode.replace("_", "-");
          this.english = language.startsWith("en");
          this.memory = new Intl.NumberFormat(language, { style: "unit", unit: "megabyte", maximumFractionDigits: 0 });
          this.name = this.trans.__("Displays");
          this.shutdownAllLabel = this.trans.__("Stop All");
          this.shutdownAllConfirmationText = this.trans.__(
            "Stop all displays? The programs in them end, and what they have not saved is lost."
          );
          displays.changed.connect((_sender, event) => {
            if (event?.action === "removed") {
              this.forget(event.display.id);
            }
            this._runningChanged.emit();
          });
        }
        displays;
        requests;
        actions;
        name;
        shutdownAllLabel;
        shutdownAllConfirmationText;
        trans;
        english;
        memory;
        details = /* @__PURE__ */ new Map();
        _runningChanged = new import_signaling2.Signal(this);
        get runningChanged() {
          return this._runningChanged;
        }
        shutdownLabel = (item) => {
          const display = this.displays.get(item.context?.slice(CONTEXT.length) ?? "");
          return display?.state === "failed" ? this.trans.__("Remove from the List") : this.trans.__("Stop");
        };
        running() {
          return this.displays.list().map((display) => {
            const details = display.state === "running" ? this.look(display) : void 0;
            return {
              context: CONTEXT + display.id,
              className: `jp-Displays-item jp-mod-${display.state}`,
              icon: () => details?.thumbnail ?? this.actions.icon(display),
              // Two lines. The panel's search wants a list in each element.
              label: () => [
                (0, import_react.createElement)("span", { key: "name", children: [display.name] }),
                (0, import_react.createElement)("span", { key: "detail", className: "jp-Displays-detail", children: [this.detail(display, details)] })
              ],
              labelTitle: () => [display.name, this.detail(display, details)].filter(Boolean).join("\n"),
              open: () => {
                this.actions.open(display);
              },
              shutdown: () => {
                this.actions.stop(display);
              }
            };
          });
        }
        shutdownAll() {
          void this.displays.stopAll();
        }
        refreshRunning() {
          for (const details of this.details.values()) {
            details.asked = 0;
          }
          void this.displays.refresh();
        }
        detail(display, details) {
          switch (display.state) {
            case "starting":
              return this.trans.__("starting");
            case "failed":
              return explain(this.trans, this.english, display.cause, display.reason);
            default:
              return details?.usage ? [...new Set(details.usage.programs), this.memory.format(details.usage.memory / MEBIBYTE)].join(" · ") : "";
          }
        }
        /** Return what is known of a display, and ask anew if it is old. */
        look(display) {
          const details = this.details.get(display.id) ?? { asked: 0, tries: 0 };
          this.details.set(display.id, details);
          requestAnimationFrame(() => {
            if (Date.now() - details.asked > FRESH_MS && isShown()) {
              details.asked = Date.now();
              void this.ask(display.id, details);
            }
          });
          return details;
        }
        async ask(id, details) {
          const [usage, thumbnail] = await Promise.allSettled([this.requests.usage(id), this.requests.thumbnail(id)]);
          if (this.details.get(id) !== details) {
            return;
          }
          if (usage.status === "fulfilled") {
            details.usage = usage.value;
          }
          if (thumbnail.status === "fulfilled") {
            if (details.thumbnail) {
              URL.revokeObjectURL(details.thumbnail);
            }
            details.thumbnail = URL.createObjectURL(thumbnail.value);
          } else if (!details.thumbnail && ++details.tries < MOST_TRIES) {
            setTimeout(() => {
              details.asked = 0;
              this._runningChanged.emit();
            }, PICTURE_MS);
          }
          this._runningChanged.emit();
        }
        forget(id) {
          const thumbnail = this.details.get(id)?.thumbnail;
          if (thumbnail) {
            URL.revokeObjectURL(thumbnail);
          }
          this.details.delete(id);
        }
      };
    }
  });

  // frontend/style.css
  var style_default;
  var init_style = __esm({
    "frontend/style.css"() {
      style_default = ".jp-Display iframe {\n  border: 0;\n  display: block;\n  height: 100%;\n  width: 100%;\n}\n\n.jp-Displays-item::part(positioning-region) {\n  height: 48px;\n}\n\n.jp-Displays-item::part(content-region) {\n  height: 46px;\n}\n\n.jp-Displays-item .jp-RunningSessions-itemLabel > span {\n  display: block;\n  overflow: hidden;\n  text-overflow: ellipsis;\n}\n\n.jp-Displays-item .jp-Displays-detail {\n  color: var(--jp-ui-font-color2);\n  font-size: var(--jp-ui-font-size0);\n}\n\n.jp-Displays-item.jp-mod-failed .jp-Displays-detail {\n  color: var(--jp-error-color1);\n}\n\n.jp-Displays-item img.jp-RunningSessions-icon {\n  background: var(--jp-layout-color3);\n  border: 1px solid var(--jp-border-color2);\n  box-sizing: border-box;\n  height: 36px;\n  margin-top: 0;\n  width: 56px;\n}\n\n.jp-Displays-item span.jp-RunningSessions-icon {\n  width: 56px;\n}\n\n.jp-Display-log pre {\n  background: var(--jp-layout-color2);\n  border: 1px solid var(--jp-border-color2);\n  font-family: var(--jp-code-font-family);\n  font-size: var(--jp-code-font-size);\n  margin: 0;\n  max-height: 40vh;\n  max-width: 80ch;\n  overflow: auto;\n  padding: 8px;\n  user-select: text;\n  white-space: pre-wrap;\n}\n";
    }
  });

  // frontend/widget.ts
  var import_apputils2, import_widgets2, LEAVE_KEY, Frame, newKey, DisplayWidget;
  var init_widget = __esm({
    "frontend/widget.ts"() {
      "use strict";
      init_define_SHARED();
      import_apputils2 = __toESM(require_apputils(), 1);
      import_widgets2 = __toESM(require_widgets(), 1);
      init_tokens();
      LEAVE_KEY = "KeyJ";
      Frame = class extends import_widgets2.Widget {
        frame = document.createElement("iframe");
        constructor() {
          super();
          this.addClass("jp-IFrame");
          this.addClass("jp-Display");
          this.frame.allow = "clipboard-read; clipboard-write; fullscreen";
          this.frame.addEventListener("load", () => {
            this.watchKeys(this.frame);
            if (document.activeElement === this.frame) {
              this.focusPage();
            }
          });
          this.node.tabIndex = -1;
          this.node.append(this.frame);
        }
        load(page) {
          this.frame.src = page;
        }
        rename(title) {
          this.frame.title = title;
        }
        onActivateRequest(_message) {
          this.focusPage();
        }
        /** All keys are the display's but one chord, by which those without a mouse get out of it. */
        watchKeys(frame) {
          frame.contentWindow?.addEventListener("keydown", (event) => {
            if (event.code === LEAVE_KEY && event.ctrlKey && event.altKey && event.shiftKey) {
              event.preventDefault();
              event.stopImmediatePropagation();
              this.node.focus();
            }
          }, { capture: true });
          const inner = frame.contentDocument?.querySelector("iframe");
          inner?.addEventListener("load", () => {
            this.watchKeys(inner);
          });
        }
        focusPage() {
          this.frame.focus();
        }
      };
      newKey = () => `${Date.now()}-${Math.random().toString(36).slice(2)}`;
      DisplayWidget = class extends import_apputils2.MainAreaWidget {
        /** `key` names the tab in the layout that is kept, which is earlier than there is a display. */
        constructor(key, label, icon, coming) {
          super({
            content: new Frame(),
            reveal: coming.then(({ display, page }) => {
              this.displayId = display.id;
              this.rename(display.name);
              this.content.load(page);
            })
          });
          this.key = key;
          this.id = `${NAME}-${key}`;
          this.title.icon = icon;
          this.title.closable = true;
          this.title.dataset = { type: "display", ...this.title.dataset };
          this.toolbar.hide();
          this.rename(label);
        }
        key;
        /** Empty until the display runs. */
        displayId = "";
        rename(name) {
          this.title.label = name;
          this.title.caption = name;
          this.content.rename(name);
        }
      };
    }
  });

  // frontend/index.ts
  var index_exports = {};
  __export(index_exports, {
    default: () => index_default
  });
  var import_application, import_apputils3, import_launcher, import_mainmenu, import_running, import_settingregistry, import_translation, import_widgets3, CONTEXT_ITEM, AFTER_NOTEBOOKS, TAB, sizeOf, translated, activate, plugin, index_default;
  var init_index = __esm({
    "frontend/index.ts"() {
      "use strict";
      init_define_SHARED();
      import_application = __toESM(require_application(), 1);
      import_apputils3 = __toESM(require_apputils(), 1);
      import_launcher = __toESM(require_launcher(), 1);
      import_mainmenu = __toESM(require_mainmenu(), 1);
      import_running = __toESM(require_running(), 1);
      import_settingregistry = __toESM(require_settingregistry(), 1);
      import_translation = __toESM(require_translation(), 1);
      import_widgets3 = __toESM(require_widgets(), 1);
      init_dialogs();
      init_displays();
      init_icons();
      init_request();
      init_running();
      init_style();
      init_texts();
      init_tokens();
      init_widget();
      CONTEXT_ITEM = `.jp-RunningSessions-item[data-context^="${CONTEXT}"]`;
      AFTER_NOTEBOOKS = 10;
      TAB = '.lm-TabBar-tab[data-type="display"]';
      sizeOf = (text) => {
        const [width, height] = text.split("x").map(Number);
        return width && height ? { width, height } : void 0;
      };
      translated = (value, trans, key = "") => {
        if (typeof value === "string") {
          return ["title", "description", "jupyter.lab.setting-icon-label"].includes(key) ? trans.__(value) : value;
        }
        if (Array.isArray(value)) {
          return value.map((item) => translated(item, trans));
        }
        return value !== null && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([name, item]) => [name, translated(item, trans, name)])) : value;
      };
      activate = (app, translator_, labShell, restorer, palette, launcher, mainMenu, running, registry) => {
        const { commands, contextMenu, serviceManager, shell } = app;
        const translator = translator_ ?? import_translation.nullTranslator;
        const trans = translator.load(DOMAIN);
        const language = translator.languageCode.replace("_", "-");
        const requests = new Requests(serviceManager.serverSettings);
        const displays = new Displays(requests, serviceManager.events);
        const tracker = new import_apputils3.WidgetTracker({ namespace: NAME });
        const programs = /* @__PURE__ */ new Map();
        let kinds = [];
        let settings = { openIn: "tab", kind: "desktop", size: "" };
        const sheet = document.createElement("style");
        sheet.textContent = style_default;
        document.head.append(sheet);
        const explained = ({ cause, reason }) => explain(trans, language.startsWith("en"), cause, reason);
        const pageOf = (display) => {
          const url = new URL(display.url, serviceManager.serverSettings.baseUrl);
          url.searchParams.set("lang", language.split("-")[0] ?? "en");
          return url.href;
        };
        const iconOf = (display) => programs.get(display.program ?? "")?.icon ?? displayIcon;
        const showError = async (title, error) => {
          const refused = error instanceof RefusedError ? error : null;
          const reason = error instanceof Error ? error.message : String(error);
          await showLog(trans, title, explained({ cause: refused?.word ?? "", reason }), refused?.log ?? "");
        };
        const addTab = (label, icon, coming, key = newKey()) => {
          const shown = coming.then((display) => ({ display, page: pageOf(display) }));
          const widget = new DisplayWidget(key, label, icon, shown);
          void tracker.add(widget);
          shell.add(widget, "main", { type: "Display" });
          shell.activateById(widget.id);
          widget.revealed.then(() => tracker.save(widget), () => {
            widget.dispose();
          });
          return widget;
        };
        const openTab = (display, key) => {
          const there = tracker.find((widget) => widget.displayId === display.id);
          if (there) {
            shell.activateById(there.id);
            return there;
          }
          return addTab(display.name, iconOf(display), Promise.resolve(display), key);
        };
        const openPage = (display) => {
          window.open(pageOf(display), "_blank", "noopener");
        };
        const opensInBrowser = () => labShell === null || settings.openIn === "browser";
        const open = (display) => {
          if (display.state === "failed") {
            void commands.execute(CommandIDs.showLog, { id: display.id });
            return void 0;
          }
          if (opensInBrowser()) {
            openPage(display);
            return void 0;
          }
          return openTab(display);
        };
        const start = async (wish, label, icon) => {
          const inBrowser = opensInBrowser();
          const page = inBrowser ? window.open("about:blank", "_blank") : null;
          const size = sizeOf(settings.size);
          const coming = displays.create({ ...wish, ...size && { size } });
          const widget = inBrowser ? void 0 : addTab(label, icon, coming);
          try {
            const display = await coming;
            if (page) {
              page.opener = null;
              page.location.replace(pageOf(display));
            } else if (inBrowser) {
              import_apputils3.Notification.info(trans.__("The browser has kept “%1” from opening.", display.name), {
                autoClose: false,
                actions: [{ label: trans.__("Open"), displayType: "accent", callback: () => {
                  openPage(display);
                } }]
              });
            }
            return widget;
          } catch (error) {
            page?.close();
            await showError(trans.__("“%1” could not be started", label), error);
            return void 0;
          }
        };
        const target = (args) => {
          if (typeof args.id === "string") {
            return displays.get(args.id);
          }
          const node = app.contextMenuHitTest((element) => element.dataset["context"]?.startsWith(CONTEXT) ?? false);
          if (node) {
            return displays.get(node.dataset["context"]?.slice(CONTEXT.length) ?? "");
          }
          const tab = app.contextMenuHitTest((element) => element.dataset["type"] === "display");
          const widget = tab ? tracker.find((shown) => shown.id === tab.dataset["id"]) : shell.currentWidget instanceof DisplayWidget ? shell.currentWidget : void 0;
          return widget ? displays.get(widget.displayId) : void 0;
        };
        const programOf = (args) => programs.get(typeof args.program === "string" ? args.program : "");
        const unusedName = (title) => {
          const used = new Set(displays.list().map(({ name: name2 }) => name2));
          let name = title;
          for (let number = 2; used.has(name); number++) {
            name = `${title} ${number}`;
          }
          return name;
        };
        const isRunning = (args) => target(args)?.state === "running";
        commands.addCommand(CommandIDs.create, {
          label: (args) => {
            const title = programOf(args)?.program.title ?? trans.__("Display");
            return args["isPalette"] ? trans.__("Start “%1”", title) : title;
          },
          caption: (args) => {
            const title = programOf(args)?.program.title;
            return title ? trans.__("Start “%1” and show its windows here", title) : trans.__("Start a display");
          },
          icon: (args) => programOf(args)?.icon ?? displayIcon,
          execute: (args) => {
            const offered2 = programOf(args);
            const wish = offered2 ? { program: offered2.program.name } : {
              // The server would name it by its window manager.
              name: unusedName(trans.__("Display")),
              kind: kinds.includes(settings.kind) ? settings.kind : "seamless"
            };
            return start(wish, offered2?.program.title ?? trans.__("Display"), offered2?.icon ?? displayIcon);
          }
        });
        commands.addCommand(CommandIDs.runCommand, {
          label: trans.__("Run a Command in a Display…"),
          icon: displayIcon,
          execute: async () => {
            const { value } = await import_apputils3.InputDialog.getText({
              title: trans.__("Run a command in a display"),
              label: trans.__("Command"),
              placeholder: "xterm -e top",
              okLabel: trans.__("Start"),
              cancelLabel: trans.__("Cancel")
            });
            const command = value?.trim();
            return command ? start({ command }, command, displayIcon) : void 0;
          }
        });
        commands.addCommand(CommandIDs.open, {
          label: trans.__("Open Display"),
          isEnabled: (args) => target(args) !== void 0,
          execute: async (args) => {
            await displays.ready;
            const display = target(args);
            if (display && typeof args["key"] === "string") {
              return display.state === "running" ? openTab(display, args["key"]) : void 0;
            }
            return display && open(display);
          }
        });
        commands.addCommand(CommandIDs.openInBrowser, {
          label: trans.__("Open Display in Browser Tab"),
          isEnabled: isRunning,
          execute: (args) => {
            const display = target(args);
            if (display) {
              openPage(display);
            }
          }
        });
        commands.addCommand(CommandIDs.rename, {
          label: trans.__("Rename Display…"),
          isEnabled: (args) => target(args) !== void 0,
          execute: async (args) => {
            const display = target(args);
            if (!display) {
              return;
            }
            const { value } = await import_apputils3.InputDialog.getText({
              title: trans.__("Rename the display"),
              label: trans.__("Name"),
              text: display.name,
              okLabel: trans.__("Rename"),
              cancelLabel: trans.__("Cancel")
            });
            if (value && value !== display.name) {
              await displays.rename(display.id, value).catch((error) => showError(trans.__("“%1” could not be renamed", display.name), error));
            }
          }
        });
        commands.addCommand(CommandIDs.stop, {
          label: (args) => target(args)?.state === "failed" ? trans.__("Remove from the List") : trans.__("Stop Display"),
          isEnabled: (args) => target(args) !== void 0,
          execute: async (args) => {
            const display = target(args);
            if (!display) {
              return;
            }
            if (display.state === "failed" || await confirmStop(trans, trans.__("Stop “%1”?", display.name))) {
              await displays.stop(display.id).catch((error) => showError(trans.__("“%1” could not be stopped", display.name), error));
            }
          }
        });
        commands.addCommand(CommandIDs.stopAll, {
          label: trans.__("Stop All Displays"),
          isEnabled: () => displays.list().length > 0,
          execute: async () => {
            if (await confirmStop(trans, trans.__("Stop all displays?"))) {
              await displays.stopAll();
            }
          }
        });
        commands.addCommand(CommandIDs.showLog, {
          label: trans.__("Show Log"),
          isEnabled: (args) => target(args)?.state === "failed",
          execute: async (args) => {
            const display = target(args);
            if (display) {
              await showLog(trans, display.name, explained(display), display.log);
            }
          }
        });
        const category = trans.__("Displays");
        const menu = new import_widgets3.Menu({ commands });
        menu.title.label = trans.__("Display");
        menu.title.icon = displayIcon;
        mainMenu?.fileMenu.newMenu.addGroup([{ type: "submenu", submenu: menu }], 40);
        for (const [selector, command, rank] of [
          [CONTEXT_ITEM, CommandIDs.openInBrowser, 0],
          [CONTEXT_ITEM, CommandIDs.rename, 1],
          [CONTEXT_ITEM, CommandIDs.showLog, 2],
          [CONTEXT_ITEM, CommandIDs.stop, 3],
          [TAB, CommandIDs.openInBrowser, 0],
          [TAB, CommandIDs.rename, 1],
          [TAB, CommandIDs.stop, 2]
        ]) {
          contextMenu.addItem({ selector, command, rank });
        }
        for (const id of [CommandIDs.openInBrowser, CommandIDs.rename, CommandIDs.stop, CommandIDs.stopAll]) {
          palette?.addItem({ command: id, category });
        }
        const offer = (status) => {
          kinds = status.kinds;
          const offers = [{}];
          for (const program of status.programs) {
            if (program.available) {
              programs.set(program.name, { program, icon: programIcon(program) });
              offers.push({ program: program.name });
            }
          }
          for (const [rank, args] of offers.entries()) {
            launcher?.add({ command: CommandIDs.create, args, category, categoryRank: AFTER_NOTEBOOKS, rank });
            palette?.addItem({ command: CommandIDs.create, args: { ...args, isPalette: true }, category });
            menu.addItem({ command: CommandIDs.create, args });
          }
          palette?.addItem({ command: CommandIDs.runCommand, category });
          menu.addItem({ type: "separator" });
          menu.addItem({ command: CommandIDs.runCommand });
        };
        const offered = requests.status().then(offer, () => void 0);
        running?.add(new RunningDisplays(displays, requests, {
          icon: iconOf,
          open: (display) => {
            open(display);
          },
          stop: (display) => {
            void commands.execute(CommandIDs.stop, { id: display.id });
          }
        }, translator));
        const notices = /* @__PURE__ */ new Map();
        displays.died.connect((_sender, display) => {
          notices.set(display.id, import_apputils3.Notification.error(`${display.name}: ${explained(display)}`, {
            autoClose: false,
            actions: [{
              label: trans.__("Show Log"),
              displayType: "accent",
              callback: () => {
                void showLog(trans, display.name, explained(display), (displays.get(display.id) ?? display).log);
              }
            }]
          }));
        });
        displays.changed.connect((_sender, event) => {
          commands.notifyCommandChanged();
          for (const widget of tracker.filter(() => true)) {
            const display = displays.get(widget.displayId);
            if (display) {
              widget.rename(display.name);
            } else if (widget.displayId) {
              widget.dispose();
            }
          }
          const notice = event?.action === "removed" ? notices.get(event.display.id) : void 0;
          if (notice) {
            import_apputils3.Notification.dismiss(notice);
          }
        });
        void app.restored.then(() => displays.refresh());
        registry?.transform(PLUGIN, {
          fetch: (loaded) => ({ ...loaded, schema: translated(loaded.schema, trans) })
        });
        void registry?.load(PLUGIN).then((loaded) => {
          const read = () => {
            settings = loaded.composite;
          };
          loaded.changed.connect(read);
          read();
        });
        if (restorer) {
          void restorer.restore(tracker, {
            command: CommandIDs.open,
            args: ({ displayId, key }) => ({ id: displayId, key }),
            name: ({ key }) => key,
            when: [offered, displays.ready]
          });
        }
      };
      plugin = {
        id: PLUGIN,
        description: "Displays: programs with windows, in the browser.",
        autoStart: true,
        optional: [
          import_translation.ITranslator,
          import_application.ILabShell,
          import_application.ILayoutRestorer,
          import_apputils3.ICommandPalette,
          import_launcher.ILauncher,
          import_mainmenu.IMainMenu,
          import_running.IRunningSessionManagers,
          import_settingregistry.ISettingRegistry
        ],
        activate
      };
      index_default = plugin;
    }
  });

  // frontend/remote.ts
  var shared, scope, container;
  var init_remote = __esm({
    "frontend/remote.ts"() {
      init_define_SHARED();
      init_tokens();
      shared = /* @__PURE__ */ new Map();
      scope = {};
      container = {
        init: (given) => {
          scope = given;
        },
        get: async () => {
          await Promise.all(define_SHARED_default.map(async (name) => {
            const [version] = Object.values(scope[name] ?? {});
            if (version) {
              shared.set(name, (await version.get())());
            }
          }));
          const { default: plugin2 } = await Promise.resolve().then(() => (init_index(), index_exports));
          return () => ({ __esModule: true, default: plugin2 });
        }
      };
      window._JUPYTERLAB = { ...window._JUPYTERLAB, [NAME]: container };
    }
  });
  init_remote();
})();
