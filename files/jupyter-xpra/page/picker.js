/**
 * The picker of keyboard layouts: a button in the corner that shows them, and a panel to choose. Nothing depends on the
 * choice being right: a letter of another layout chooses that one.
 */
import { codes, layouts } from "./layouts.js";

const STORE = "jupyter-xpra:layouts";
/** Which layout a letter is taken for that several have on the same key. */
const COMMON = ["ru", "ua", "by", "kz", "de", "fr", "es", "pt", "it", "gr", "tr", "pl", "cz", "bg", "rs", "se", "no", "il", "ara"];
/** No more than these are added by themselves. */
const MOST = 4;
const language = (new URLSearchParams(location.search).get("lang") ?? navigator.language).startsWith("ru") ? "ru" : "en";
const TEXTS = {
  en: {
    title: "Keyboard layouts",
    button: "Keyboard layouts: {layouts}. Ctrl+Alt+Shift+K",
    hint: "Choose those you type with. Characters of others arrive too.",
    search: "Search",
    none: "No such layout",
    close: "Close",
  },
  ru: {
    title: "Раскладки клавиатуры",
    button: "Раскладки клавиатуры: {layouts}. Ctrl+Alt+Shift+K",
    hint: "Выберите те, на которых печатаете. Символы остальных тоже дойдут.",
    search: "Поиск",
    none: "Такой раскладки нет",
    close: "Закрыть",
  },
}[language];

/** @param {string} name @returns {string} the layout's name in the reader's language */
const nameOf = (name) => {
  const [english, tag] = layouts[name];
  if (language === "en") {
    return english;
  }
  const own = new Intl.DisplayNames(language, { type: "language", fallback: "none" }).of(tag);
  return own ? own[0].toUpperCase() + own.slice(1) : english;
};

/** @returns {string[]} the layouts chosen in this browser, else those the display was started with, else the American */
export const chosenLayouts = () => {
  const given = new URLSearchParams(location.search).get("layouts")?.split(",") ?? [];
  let stored = [];
  try {
    stored = JSON.parse(localStorage.getItem(STORE) ?? "[]");
  } catch {
    // Not ours, or no storage here.
  }
  const known = [stored, given].map((names) => (Array.isArray(names) ? names : [])
    .map((name) => String(name).replace(/\(.*\)$/, ""))
    .filter((name) => Object.hasOwn(layouts, name)));
  return known.find((names) => names.length) ?? ["us"];
};

/** @param {string} tag @param {Record<string, string>} [attributes] @param {(Node | string)[]} children @returns {HTMLElement} */
const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};

export class Picker {
  /** @param {object} client  Xpra's client */
  constructor(client) {
    this.client = client;
    this.chosen = chosenLayouts();
    /** The one whose character was typed last. */
    this.active = this.chosen[0];
    this.button = element("button", { type: "button", class: "layouts-button", "aria-controls": "layouts-panel" });
    this.search = element("input", { type: "search", placeholder: TEXTS.search, "aria-label": TEXTS.search });
    this.none = element("p", { class: "layouts-none" }, TEXTS.none);
    this.list = element("div", { class: "layouts-list", role: "group", "aria-labelledby": "layouts-title" });
    const close = element("button", { type: "button", class: "layouts-close", "aria-label": TEXTS.close }, "×");
    this.panel = element(
      "div", { id: "layouts-panel", class: "layouts-panel", role: "dialog", "aria-labelledby": "layouts-title", lang: language },
      element("header", {}, element("h2", { id: "layouts-title" }, TEXTS.title), close),
      element("p", {}, TEXTS.hint), this.search, this.list, this.none,
    );
    this.button.addEventListener("click", () => this.toggle(this.panel.hidden));
    close.addEventListener("click", () => this.toggle(false));
    this.search.addEventListener("input", () => this.filter());
    this.panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        this.toggle(false);
      }
    });
  }

  /** Put the picker into the page. */
  show() {
    const root = element("div", { class: "layouts" }, this.panel, this.button);
    this.panel.hidden = true;
    document.body.append(root);
    // What happens in the picker is not for the programs.
    for (const type of ["mousedown", "mouseup", "click", "wheel", "keydown", "keyup"]) {
      root.addEventListener(type, (event) => event.stopPropagation());
    }
    document.addEventListener("mousedown", (event) => {
      if (!this.panel.hidden && !root.contains(event.target)) {
        this.toggle(false);
      }
    }, { capture: true });
    document.addEventListener("keydown", (event) => {
      if (event.code === "KeyK" && event.ctrlKey && event.altKey && event.shiftKey) {
        event.preventDefault();
        event.stopImmediatePropagation();
        this.client.keyboard.release();
        this.toggle(this.panel.hidden);
      }
    }, { capture: true });
    // The client takes the focus to its field whenever the server has shown all windows, which may be after this was opened;
    // what is typed would go to the program then.
    document.addEventListener("focusin", ({ target, relatedTarget }) => {
      if (!this.panel.hidden && !root.contains(target)) {
        (root.contains(relatedTarget) ? relatedTarget : this.search).focus();
      }
    }, { capture: true });
    this.client.keyboard.onUnknown = (item) => this.discover(item);
    this.client.keyboard.onTyped = (code, character) => this.typed(code, character);
    this.update();
  }

  /** @param {boolean} isOpen */
  toggle(isOpen) {
    this.panel.hidden = !isOpen;
    this.button.setAttribute("aria-expanded", String(isOpen));
    // The keys are for the picker as long as it is open.
    this.client.capture_keyboard = !isOpen;
    if (isOpen) {
      this.fill();
      this.search.value = "";
      this.filter();
      this.search.focus();
    } else {
      document.getElementById("pasteboard").focus();
    }
  }

  /** List the layouts, the chosen ones first. */
  fill() {
    const names = Object.keys(layouts).map((name) => [name, nameOf(name)]);
    const rank = ([name]) => (this.chosen.includes(name) ? this.chosen.indexOf(name) : this.chosen.length);
    names.sort((a, b) => rank(a) - rank(b) || a[1].localeCompare(b[1], language));
    this.list.replaceChildren(...names.map(([name, title]) => {
      const box = element("input", { type: "checkbox", value: name });
      box.checked = this.chosen.includes(name);
      box.addEventListener("change", () => this.choose(name, box));
      return element("label", {}, box, element("span", {}, title), element("kbd", {}, name));
    }));
  }

  filter() {
    const wanted = this.search.value.trim().toLowerCase();
    let found = 0;
    for (const label of this.list.children) {
      const [english] = layouts[label.lastChild.textContent];
      label.hidden = !`${label.textContent} ${english}`.toLowerCase().includes(wanted);
      found += label.hidden ? 0 : 1;
    }
    this.none.hidden = found > 0;
  }

  /** @param {string} name @param {HTMLInputElement} box */
  choose(name, box) {
    const others = this.chosen.filter((other) => other !== name);
    if (!box.checked && !others.length) {
      // At least one.
      box.checked = true;
      return;
    }
    this.remember(box.checked ? [...others, name] : others);
    this.client.keyboard.setLayouts(this.chosen);
  }

  /** @param {string[]} names */
  remember(names) {
    this.chosen = names;
    try {
      localStorage.setItem(STORE, JSON.stringify(names));
    } catch {
      // Without storage it holds until the page is left.
    }
    if (!names.includes(this.active)) {
      [this.active] = names;
    }
    this.update();
  }

  /**
   * Choose a layout by a letter that none of the chosen ones has.
   * @param {{character: string, code?: string}} item
   * @returns {string[] | null}  the layouts that are chosen then, unless none is found
   */
  discover({ character, code }) {
    const index = codes.indexOf(code);
    const has = (name) => [...(layouts[name]?.[2][index] ?? "")].slice(0, 2).includes(character);
    const name = /\p{L}/u.test(character) && this.chosen.length < MOST && [...COMMON, ...Object.keys(layouts)].find(has);
    if (!name) {
      return null;
    }
    this.active = name;
    this.remember([...this.chosen, name]);
    return this.chosen;
  }

  /** Notice by what was typed which layout is active here. @param {string} code @param {string} character */
  typed(code, character) {
    const index = codes.indexOf(code);
    const isIn = (name) => index >= 0 && [...layouts[name][2][index]].includes(character);
    if (character !== " " && !isIn(this.active)) {
      const name = this.chosen.find(isIn);
      if (name) {
        this.active = name;
        this.update();
      }
    }
  }

  update() {
    const names = this.chosen.map((name) => element(name === this.active ? "strong" : "span", {}, name));
    this.button.replaceChildren(element("span", { class: "layouts-icon", "aria-hidden": "true" }), ...names);
    const label = TEXTS.button.replace("{layouts}", this.chosen.map(nameOf).join(", "));
    this.button.title = label;
    this.button.setAttribute("aria-label", label);
    this.button.setAttribute("aria-expanded", String(!this.panel.hidden));
  }
}
