/**
 * What happens between a key here and the key of the remote keyboard. The character that the browser reports is what
 * counts (KeyboardEvent.key): layout, dead keys, Caps Lock and third levels have had their effect on it. Only shortcuts
 * are told by the place of the key, where the layout is not Latin.
 */
import { Keymap, MODIFIERS, SPACE, nameOf, namedKeycode } from "./keymap.js";

/** @param {number} time in ms @returns {Promise<void>} */
const sleep = (time) => new Promise((resolve) => {
  setTimeout(resolve, time);
});

const isMac = /^Mac|^iP/.test(navigator.platform);

/** How long Ctrl+V waits for the browser's paste event, which brings the text that has to be there first, in ms. */
const PASTE = 200;

/** How long a program may take to look up what a key means, and each further key, in ms: meanwhile the keymap stays. */
const SETTLE = 250;
const SETTLE_EACH = 20;

/** @param {string} key @returns {boolean} whether KeyboardEvent.key is text; names of keys are words in ASCII */
const isText = (key) => !/^[A-Z][A-Za-z0-9]+$/.test(key) && key !== "";

/** @param {string} key @returns {boolean} whether an input method or a dead key has still to say what is typed */
const isUnfinished = (key) => ["Dead", "Process", "Unidentified", "Compose"].includes(key);

/** @typedef {{character: string, shift: boolean, code?: string}} Item  a character, and how it was typed */

export class Keyboard {
  /**
   * @param {object} client  Xpra's client
   * @param {string[]} names  layouts, as X calls them
   */
  constructor(client, names) {
    this.client = client;
    this.keymap = new Keymap(names);
    /** @type {(Item[] | (() => void | Promise<void>))[]} texts and all else that has to wait for its turn */
    this.waiting = [];
    /** When a program has seen the keys sent so far. */
    this.seenAt = 0;
    this.isBusy = false;
    /** @type {((code: string, character: string) => void) | null} told of each character typed by a key */
    this.onTyped = null;
    /** @type {((item: Item) => string[] | null) | null} asked which layouts to have for a character that none has */
    this.onUnknown = null;
    /** @type {Set<number>} modifiers that are held, as keycodes */
    this.held = new Set();
    window.addEventListener("blur", () => this.release());
    /** @type {(() => void) | null} called when the browser has told what to paste */
    this.onPasted = null;
  }

  /** @param {string[]} names  layouts to have from now on */
  setLayouts(names) {
    this.run(async () => {
      await this.settled();
      this.keymap = new Keymap(names);
      this.sendKeymap();
    });
  }

  /** @returns {Record<string, unknown>} the keymap for the hello packet of Xpra before 4.4, and later ones' structure */
  capabilities() {
    const keysyms = this.keymap.keysyms();
    const keycodes = [...keysyms].flatMap(([keycode, names]) => names.map((name, level) => [0, name, keycode, 0, level]));
    const isFlat = !this.client._get_keyboard_caps;
    const keymap = {
      layout: "us", variant: "", options: "", keycodes, mod_meanings: MODIFIERS, layout_groups: false,
    };
    // Without synchronisation the server releases each key at once. A key that repeats does so here; one that the server
    // repeats as well, because its release is late, would type what nobody did.
    return isFlat
      ? {
          ...Object.fromEntries(Object.entries(keymap).map(([name, value]) => [`xkbmap_${name}`, value])),
          xkbmap_print: "",
          // Not empty says that the keycodes are X's; what it holds is not used where there is a layout.
          xkbmap_query: "-",
          keyboard_sync: false,
        }
      : { ...keymap, query_struct: { rules: "evdev", model: "pc105", layout: "us" }, x11_keycodes: keysyms, sync: false };
  }

  /** Tell the server that the keymap has changed. */
  sendKeymap() {
    if (!this.client.connected) {
      return;
    }
    if (this.client.send_keymap) {
      this.client.send_keymap(true);
    } else {
      this.client.send(["keymap-changed", this.capabilities()]);
    }
  }

  /**
   * Do something in its turn: at once, unless something before it still waits.
   * @param {Item[] | (() => void | Promise<void>)} task
   */
  run(task) {
    this.waiting.push(task);
    if (!this.isBusy) {
      this.drain();
    }
  }

  drain() {
    while (this.waiting.length) {
      const task = this.waiting.shift();
      const promise = Array.isArray(task) ? this.typeNow(task) : task();
      if (promise) {
        this.isBusy = true;
        promise.finally(() => {
          this.isBusy = false;
          this.drain();
        });
        return;
      }
    }
  }

  /**
   * @param {KeyboardEvent | MouseEvent} event
   * @returns {string[]} the modifiers that are held, as X calls them. Not the locks: their effect is in the characters.
   */
  modifiers(event) {
    const isThirdLevel = this.isThirdLevel(event);
    const [control, meta] = this.client.swap_keys ? ["mod4", "control"] : ["control", "mod4"];
    return [
      event.shiftKey && "shift",
      event.ctrlKey && !isThirdLevel && control,
      event.altKey && !isThirdLevel && "mod1",
      event.metaKey && meta,
    ].filter(Boolean);
  }

  /** @param {KeyboardEvent | MouseEvent} event @returns {boolean} whether Ctrl and Alt are only how a third level is typed */
  isThirdLevel(event) {
    // Events of touch screens know no modifiers.
    return event.getModifierState?.("AltGraph")
      || (isMac && event.altKey && !event.ctrlKey && !event.metaKey && "key" in event && isText(event.key));
  }

  /**
   * @param {number} keycode
   * @param {boolean} pressed
   * @param {string[]} modifiers
   */
  send(keycode, pressed, modifiers) {
    if (pressed) {
      this.seenAt = Math.max(this.seenAt, performance.now()) + SETTLE_EACH;
    }
    const window = this.client.focused_wid ?? this.client.topwindow;
    if (window !== null && window !== undefined) {
      this.client.send(["key-action", window, nameOf(keycode), pressed, modifiers, 0, "", keycode, 0]);
    }
  }

  /**
   * Tell which modifiers are held here: a character may have needed others. The next key tells it anyway.
   * @param {string[]} modifiers
   */
  sync(modifiers) {
    if (!this.isBusy) {
      this.send(SPACE, false, modifiers);
    }
  }

  /** Release what is held: its release happens elsewhere. */
  release() {
    for (const keycode of this.held) {
      this.run(() => this.send(keycode, false, []));
    }
    this.held.clear();
  }

  /** @returns {Promise<void>} until programs have seen the keys sent so far */
  async settled() {
    await sleep(Math.max(0, this.seenAt + SETTLE - performance.now()));
  }

  /**
   * Type a text, in its turn.
   * @param {string} text
   * @param {boolean} [shift]  whether Shift is held
   * @param {string} [code]  KeyboardEvent.code of the key that made it
   */
  type(text, shift = false, code = undefined) {
    const items = Array.from(text.replace(/\r\n?/g, "\n"), (character) => ({ character, shift, code }));
    this.run(items);
  }

  /** @param {Item[]} items @returns {Promise<void> | undefined} */
  typeNow(items) {
    for (const [index, { character, shift }] of items.entries()) {
      const control = { "\n": "Enter", "\t": "Tab" }[character];
      const key = this.keymap.find(character, shift);
      if (control) {
        this.send(namedKeycode(control, control, 0), true, []);
      } else if (key) {
        this.keymap.use(key.keycode);
        this.send(key.keycode, true, key.shift ?? shift ? ["shift"] : []);
      } else if (character >= " ") {
        return this.learn(items.slice(index));
      }
    }
    return undefined;
  }

  /** Have keys for characters that there are none for, and type them. @param {Item[]} items */
  async learn(items) {
    await this.settled();
    // What has been typed in the meantime may be new as well: change the keymap once for all of it.
    while (Array.isArray(this.waiting[0])) {
      items.push(...this.waiting.shift());
    }
    const known = items.find((item) => item.code && !this.keymap.find(item.character, item.shift));
    const names = known && this.onUnknown?.(known);
    if (names) {
      this.keymap = new Keymap(names);
    }
    this.keymap.learn(items.map((item) => item.character).filter((character) => character >= " "));
    this.sendKeymap();
    await this.typeNow(items);
  }

  /**
   * Handle a key of the local keyboard.
   * @param {boolean} pressed
   * @param {KeyboardEvent} event
   * @returns {boolean} whether the browser may go on with it
   */
  process(pressed, event) {
    if (!this.client.capture_keyboard) {
      return true;
    }
    const { key, code, location } = event;
    if (["CapsLock", "NumLock", "AltGraph"].includes(key)) {
      return false;
    }
    const modifiers = this.modifiers(event);
    const isShortcut = modifiers.some((modifier) => modifier !== "shift");
    if (event.isComposing || (!isShortcut && (isUnfinished(key) || event.keyCode === 229))) {
      return true;
    }
    const keycode = namedKeycode(key, code, location);
    if (keycode !== undefined) {
      return this.processNamed(keycode, pressed, modifiers, key);
    }
    if (isShortcut) {
      return this.processShortcut(pressed, modifiers, event);
    }
    if (isText(key)) {
      if (pressed) {
        this.type(key, event.shiftKey, code);
        this.onTyped?.(code, key);
      } else {
        this.sync(modifiers);
      }
      return false;
    }
    // Keys of the browser's and the system's own, as the volume's.
    return true;
  }

  processNamed(keycode, pressed, modifiers, key) {
    const isModifier = ["Control", "Shift", "Alt", "Meta"].includes(key);
    const swapped = this.client.swap_keys ? { 37: 133, 105: 134, 133: 37, 134: 105 }[keycode] : undefined;
    const isPaste = key === "Insert" && modifiers.join() === "shift";
    if (pressed && isPaste) {
      this.run(() => this.pasted());
    }
    if (isModifier) {
      this.held[pressed ? "add" : "delete"](swapped ?? keycode);
    }
    if (pressed || isModifier) {
      this.run(() => this.send(swapped ?? keycode, pressed, modifiers));
    }
    // The browser makes its paste event of these; without Ctrl and Shift it would see no combination.
    return isPaste || ["Control", "Shift"].includes(key) || (isMac && key === "Meta");
  }

  /** Handle a key with Ctrl, Alt or Super, which programs know by its Latin letter. */
  processShortcut(pressed, modifiers, event) {
    const isLatin = /^[ -~]$/.test(event.key);
    const character = (isLatin ? event.key : this.keymap.latin.get(event.code) ?? "").toLowerCase();
    const key = this.keymap.find(character, event.shiftKey);
    if (!key) {
      return true;
    }
    const isControl = modifiers.includes("control");
    if (pressed) {
      if (isControl && character === "v") {
        this.run(() => this.pasted());
      }
      const isLetter = /[a-z]/.test(character);
      const others = modifiers.filter((modifier) => modifier !== "shift");
      const shift = isLetter || key.shift === null ? event.shiftKey : key.shift;
      this.run(() => this.send(key.keycode, true, shift ? ["shift", ...others] : others));
    } else {
      this.sync(modifiers);
    }
    return isControl && character === "v";
  }

  /** @returns {Promise<void>} until the browser has told what to paste */
  pasted() {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.onPasted?.(), PASTE);
      this.onPasted = () => {
        clearTimeout(timer);
        this.onPasted = null;
        resolve();
      };
    });
  }
}
