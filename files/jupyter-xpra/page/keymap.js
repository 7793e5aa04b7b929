/**
 * The keymap of the display, made here: each character that the chosen layouts can type has a key of its own on the
 * remote keyboard, from the start. A character is then sent as that key, so the remote side never has to know which
 * layout is active here, and its keymap does not change while somebody types. A character that no chosen layout has gets
 * a spare key when it is first typed.
 *
 * Keycodes are X's (evdev): 8 to 255. A key carries two characters, plain and with Shift.
 */
import { codes, layouts } from "./layouts.js";

/** X's keycode of each printing key, by KeyboardEvent.code. */
const PRINTING = new Map(
  [
    ["Backquote", 49], ["Backslash", 51], ["IntlBackslash", 94], ["IntlRo", 97], ["IntlYen", 132], ["Space", 65],
    ...["Digit1", "Digit2", "Digit3", "Digit4", "Digit5", "Digit6", "Digit7", "Digit8", "Digit9", "Digit0", "Minus",
      "Equal"].map((code, place) => [code, 10 + place]),
    ...[..."QWERTYUIOP"].map((letter, place) => [`Key${letter}`, 24 + place]), ["BracketLeft", 34], ["BracketRight", 35],
    ...[..."ASDFGHJKL"].map((letter, place) => [`Key${letter}`, 38 + place]), ["Semicolon", 47], ["Quote", 48],
    ...[..."ZXCVBNM"].map((letter, place) => [`Key${letter}`, 52 + place]), ["Comma", 59], ["Period", 60], ["Slash", 61],
  ],
);

export const SPACE = 65;

/** Keys that print nothing, by KeyboardEvent.key: keycode and keysyms. Where there are two of a kind: left, right. */
const NAMED = {
  Escape: [[9, "Escape"]], Backspace: [[22, "BackSpace"]], Tab: [[23, "Tab", "ISO_Left_Tab"]], Enter: [[36, "Return"]],
  Control: [[37, "Control_L"], [105, "Control_R"]], Shift: [[50, "Shift_L"], [62, "Shift_R"]],
  Alt: [[64, "Alt_L", "Meta_L"], [108, "Alt_R", "Meta_R"]], Meta: [[133, "Super_L"], [134, "Super_R"]],
  ...Object.fromEntries(Array.from({ length: 10 }, (_, place) => [`F${place + 1}`, [[67 + place, `F${place + 1}`]]])),
  F11: [[95, "F11"]], F12: [[96, "F12"]],
  ScrollLock: [[78, "Scroll_Lock"]], PrintScreen: [[107, "Print"]], Pause: [[127, "Pause"]], ContextMenu: [[135, "Menu"]],
  Home: [[110, "Home"]], ArrowUp: [[111, "Up"]], PageUp: [[112, "Prior"]], ArrowLeft: [[113, "Left"]],
  ArrowRight: [[114, "Right"]], End: [[115, "End"]], ArrowDown: [[116, "Down"]], PageDown: [[117, "Next"]],
  Insert: [[118, "Insert"]], Delete: [[119, "Delete"]],
};

/** Keys of the numeric pad that move instead of printing, and its operators, by KeyboardEvent.code. */
const PAD = {
  Numpad7: [79, "KP_Home"], Numpad8: [80, "KP_Up"], Numpad9: [81, "KP_Prior"], Numpad4: [83, "KP_Left"],
  Numpad5: [84, "KP_Begin"], Numpad6: [85, "KP_Right"], Numpad1: [87, "KP_End"], Numpad2: [88, "KP_Down"],
  Numpad3: [89, "KP_Next"], Numpad0: [90, "KP_Insert"], NumpadDecimal: [91, "KP_Delete"],
  NumpadMultiply: [63, "KP_Multiply"], NumpadSubtract: [82, "KP_Subtract"], NumpadAdd: [86, "KP_Add"],
  NumpadEnter: [104, "KP_Enter"], NumpadDivide: [106, "KP_Divide"], NumpadEqual: [125, "KP_Equal"],
};

/** Keys that are never sent, but that modifiers are known by. */
const LOCKS = [[66, "Caps_Lock"], [77, "Num_Lock"], [92, "ISO_Level3_Shift"]];

/** @type {Map<number, string[]>} keysyms of the keys that make no character */
const FIXED = new Map([...Object.values(NAMED).flat(), ...Object.values(PAD), ...LOCKS]
  .map(([keycode, ...names]) => [keycode, names]));

/** Which modifier a keysym is. */
export const MODIFIERS = {
  Shift_L: "shift", Shift_R: "shift", Control_L: "control", Control_R: "control", Alt_L: "mod1", Alt_R: "mod1",
  Meta_L: "mod1", Meta_R: "mod1", Caps_Lock: "lock", Num_Lock: "mod2", Super_L: "mod4", Super_R: "mod4",
  ISO_Level3_Shift: "mod5",
};

/** So many keys stay unused: Xpra 3 does not recognise the modifiers among the keysyms and gives each another key. */
const UNUSED = Object.keys(MODIFIERS).length;

/** So many keys are kept for characters that no chosen layout has. */
const SPARE = 24;

/** @param {string} character @returns {string} what X calls the keysym that makes it */
const keysym = (character) => `U${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** @param {string} character @returns {[string, string]} what a key that is to make it carries, so that case is kept */
const pairOf = (character) => {
  const [lower, upper] = [character.toLowerCase(), character.toUpperCase()];
  const isCase = lower !== upper && [...lower].length === 1 && [...upper].length === 1 && lower.toUpperCase() === upper;
  return isCase && (character === lower || character === upper) ? [lower, upper] : [character, character];
};

/** A key of the remote keyboard that makes a character. */
/** @typedef {{keycode: number, shift: boolean | null}} Key  whether with Shift; null where it does not matter */

export class Keymap {
  /**
   * @param {string[]} names  layouts, as X calls them; the first Latin one says where the letters of shortcuts are
   */
  constructor(names) {
    // The table has no variants: what they have besides is learnt.
    this.names = names.map((name) => name.replace(/\(.*\)$/, "")).filter((name) => Object.hasOwn(layouts, name));
    /** @type {Map<number, [string, string]>} what each key carries */
    this.slots = new Map();
    /** @type {Map<string, Key[]>} which keys make a character */
    this.keys = new Map();
    /** @type {Set<number>} spare keys in use, the one used last at the end */
    this.learned = new Set();
    this.free = [];
    for (let keycode = 9; keycode <= 255; keycode++) {
      if (!FIXED.has(keycode) && ![...PRINTING.values()].includes(keycode)) {
        this.free.push(keycode);
      }
    }
    this.place(SPACE, [" ", " "]);
    const tables = ["us", ...this.names].map((name) => layouts[name][2]);
    codes.forEach((code, index) => {
      const [plain, shifted] = tables[0][index];
      if (plain) {
        this.place(PRINTING.get(code), [plain, shifted ?? plain]);
      } else if (code !== "Space") {
        this.free.push(PRINTING.get(code));
      }
    });
    // Characters that need no third level first: they are what a layout is for.
    for (const level of [0, 2]) {
      for (const keys of tables) {
        for (const characters of keys) {
          this.add([...characters].slice(level, level + 2).map((character) => (character === " " ? "" : character)));
        }
      }
    }
    const latin = this.names.find((name) => /[a-z]/.test(layouts[name][2][codes.indexOf("KeyA")])) ?? "us";
    /** @type {Map<string, string>} the Latin character of a key, by KeyboardEvent.code */
    this.latin = new Map(codes.map((code, index) => [code, layouts[latin][2][index][0] ?? " "]));
  }

  /** @param {number} keycode @param {[string, string]} pair */
  place(keycode, pair) {
    for (const character of this.slots.get(keycode) ?? []) {
      this.keys.set(character, this.keys.get(character).filter((key) => key.keycode !== keycode));
    }
    this.slots.set(keycode, pair);
    pair.forEach((character, level) => {
      const key = { keycode, shift: pair[0] === pair[1] ? null : level === 1 };
      this.keys.set(character, [...(this.keys.get(character) ?? []), key]);
    });
  }

  /**
   * Give the two characters of a key a key on the remote side, unless they have each.
   * @param {string[]} characters  plain and with Shift; empty where the key makes none
   */
  add([plain = "", shifted = ""]) {
    const has = (character, shift) => !character || this.find(character, shift)?.shift === shift
      || this.find(character, shift)?.shift === null;
    if ((has(plain, false) && has(shifted, true)) || this.free.length <= UNUSED + SPARE) {
      return;
    }
    this.place(this.free.shift(), plain && shifted ? [plain, shifted] : pairOf(plain || shifted));
  }

  /**
   * @param {string} character
   * @param {boolean} shift  whether Shift is held here: a key that wants the same is better
   * @returns {Key | undefined}
   */
  find(character, shift) {
    const keys = this.keys.get(character) ?? [];
    return keys.find((key) => key.shift === shift) ?? keys.find((key) => key.shift === null) ?? keys[0];
  }

  /**
   * Have spare keys make these characters, in place of those that were typed longest ago. There may not be enough of them
   * for all.
   * @param {Iterable<string>} characters
   */
  learn(characters) {
    const taken = new Set();
    for (const character of characters) {
      if (!this.find(character, false)) {
        const keycode = this.free.length > UNUSED ? this.free.shift() : this.learned.values().next().value;
        if (taken.has(keycode)) {
          break;
        }
        this.place(keycode, pairOf(character));
        this.learned.add(keycode);
      }
      const { keycode } = this.find(character, false);
      taken.add(keycode);
      this.use(keycode);
    }
  }

  /** Note that a key has been used. @param {number} keycode */
  use(keycode) {
    if (this.learned.delete(keycode)) {
      this.learned.add(keycode);
    }
  }

  /** @returns {Map<number, string[]>} the keysyms of each key */
  keysyms() {
    return new Map([...FIXED, ...[...this.slots].map(([keycode, pair]) => [keycode, pair.map(keysym)])]);
  }
}

/**
 * @param {string} key   KeyboardEvent.key
 * @param {string} code  KeyboardEvent.code
 * @param {number} location  KeyboardEvent.location
 * @returns {number | undefined} X's keycode of a key that prints nothing
 */
export const namedKeycode = (key, code, location) => {
  const isPad = location === KeyboardEvent.DOM_KEY_LOCATION_NUMPAD && !/^[0-9.,]$/.test(key);
  if (isPad && Object.hasOwn(PAD, code)) {
    return PAD[code][0];
  }
  const keys = Object.hasOwn(NAMED, key) ? NAMED[key] : [];
  return (location === KeyboardEvent.DOM_KEY_LOCATION_RIGHT ? keys.at(-1) : keys[0])?.[0];
};

/** @param {number} keycode @returns {string} the name by which the server tells modifiers from other keys */
export const nameOf = (keycode) => FIXED.get(keycode)?.[0] ?? `key${keycode}`;
