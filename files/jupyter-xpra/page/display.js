/**
 * What the page of a display does otherwise than Xpra's client as shipped. Loaded after the client's scripts and before
 * it starts.
 */
import { Clipboard } from "./clipboard.js";
import { Keyboard } from "./keyboard.js";
import { Picker, chosenLayouts } from "./picker.js";

/* global XpraClient */

const prototype = XpraClient.prototype;

/** @param {string} name @param {(original: Function) => Function} make */
const replace = (name, make) => {
  prototype[name] = make(prototype[name]);
};

replace("init_keyboard", (original) => function init() {
  this.keyboard = new Keyboard(this, chosenLayouts());
  this.localClipboard = new Clipboard(this);
  new Picker(this).show();
  original.call(this);
});
replace("_keyb_process", () => function process(pressed, event) {
  return this.keyboard.process(pressed, event);
});
// The mouse's events carry modifiers too.
replace("_keyb_get_modifiers", () => function modifiers(event) {
  return this.keyboard.modifiers(event.originalEvent ?? event);
});
replace("_check_browser_language", () => () => {});
if (prototype._get_keyboard_caps) {
  replace("_get_keyboard_caps", () => function capabilities() {
    return this.keyboard.capabilities();
  });
} else {
  replace("_make_hello", (original) => function hello() {
    original.call(this);
    this._update_capabilities(this.keyboard.capabilities());
  });
}

// Older clients call these without `this` and give themselves as the second argument.
replace("_process_clipboard_token", () => function token(packet, client) {
  (client ?? this).localClipboard.copied(packet);
});
replace("_process_clipboard_request", () => function request(packet, client) {
  (client ?? this).localClipboard.requested(packet);
});
replace("_poll_clipboard", () => () => false);

if (!prototype._get_keyboard_caps) {
  // Older clients see each turn of the wheel twice, as the window's and as the screen's, and take left for right.
  const seen = new WeakSet();
  const turned = [0, 0];
  replace("do_window_mouse_scroll", () => function scroll(event, window) {
    const wheel = event.originalEvent ?? event;
    if (seen.has(wheel) || this.server_readonly || !this.connected) {
      return;
    }
    seen.add(wheel);
    const { x, y } = this.getMouse(event, window);
    // A notch of the wheel is 120 units everywhere; of pixels each system has its own idea.
    for (const [axis, units, buttons] of [[0, -wheel.wheelDeltaX, [6, 7]], [1, -wheel.wheelDeltaY, [4, 5]]]) {
      turned[axis] += units;
      const notches = Math.trunc(turned[axis] / 120);
      turned[axis] -= notches * 120;
      const button = buttons[notches > 0 ? 1 : 0];
      for (let notch = 0; notch < Math.min(Math.abs(notches), 10); notch++) {
        for (const pressed of [true, false]) {
          const position = [Math.round(x), Math.round(y)];
          this.send(["button-action", window?.wid ?? 0, button, pressed, position, this.keyboard.modifiers(wheel), []]);
        }
      }
    }
  });
}

// In a frame that is scaled down (scale.js) a pixel is one of the screen's.
if (new URLSearchParams(location.search).has("scaled")) {
  document.documentElement.style.setProperty("--scale", window.devicePixelRatio);
  replace("_get_DPI", () => () => Math.round(96 * window.devicePixelRatio));
  // A frame that fills the screen is no longer scaled: have the page around it do so.
  window.toggle_fullscreen = () => {
    const page = window.parent.document;
    return page.fullscreenElement ? page.exitFullscreen() : page.documentElement.requestFullscreen();
  };
}
