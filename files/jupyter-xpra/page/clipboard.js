/**
 * The clipboard both ways, as text, and what input methods write. The browser is asked for the clipboard only by its own
 * paste event, so it has nobody to grant a permission.
 */

/** @param {string} text @returns {Promise<void>} until it is in the local clipboard */
const put = async (text) => {
  if (navigator.clipboard?.writeText) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Pages without TLS have no other way.
  const fill = (event) => {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  document.addEventListener("copy", fill, { capture: true, once: true });
  const isDone = document.execCommand("copy");
  document.removeEventListener("copy", fill, { capture: true });
  if (!isDone) {
    throw new Error("The browser does not let the page copy now.");
  }
};

/** @param {Uint8Array | string} data  as it comes: bytes, or a character each @returns {string} */
const decode = (data) => {
  const bytes = typeof data === "string" ? Uint8Array.from(data, (character) => character.charCodeAt(0)) : data;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    // X's older type STRING.
    return new TextDecoder("latin1").decode(bytes);
  }
};

/** @param {Uint8Array} bytes @returns {string} a character each, as the client's packets have bytes */
const binary = (bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");

export class Clipboard {
  /** @param {object} client  Xpra's client */
  constructor(client) {
    this.client = client;
    /** What both sides had last, to tell who has something newer. */
    this.text = "";
    /** @type {string | null} what could not be put into the local clipboard yet */
    this.pending = null;
    const field = document.getElementById("pasteboard");
    field.readOnly = false;
    field.autocapitalize = "off";
    field.autocomplete = "off";
    field.spellcheck = false;
    // Input methods write where the focus is.
    const focus = () => this.client.capture_keyboard && field.focus();
    window.addEventListener("focus", focus);
    document.addEventListener("mouseup", focus);
    field.focus();
    // Before the client's own listeners, which know neither characters outside Latin-1 nor input methods.
    const listen = (type, listener) => document.addEventListener(type, listener, { capture: true });
    listen("paste", (event) => {
      if (this.client.capture_keyboard) {
        event.preventDefault();
        event.stopImmediatePropagation();
        this.paste(event.clipboardData.getData("text/plain"));
      }
    });
    listen("input", (event) => {
      if (event.target === field) {
        event.stopImmediatePropagation();
        if (!event.isComposing) {
          this.take(field);
        }
      }
    });
    // Some browsers tell the text of a composition before it ends, some after.
    listen("compositionend", (event) => {
      if (event.target === field) {
        setTimeout(() => this.take(field));
      }
    });
    for (const type of ["keydown", "mousedown"]) {
      listen(type, () => this.pending !== null && this.offer(this.pending));
    }
  }

  /** Type what an input method, a compose key or a panel of characters has written. @param {HTMLTextAreaElement} field */
  take(field) {
    const text = field.value;
    field.value = "";
    if (text) {
      this.client.keyboard.type(text);
    }
  }

  /** @param {string} local  what the local clipboard holds, when somebody pastes */
  paste(local) {
    const text = local.replace(/\r\n?/g, "\n");
    // What came from there is there, perhaps as more than text.
    if (text && text !== this.text) {
      this.text = text;
      const bytes = new TextEncoder().encode(text);
      this.client.send_clipboard_token(this.client.send_keymap ? bytes : binary(bytes));
    }
    this.client.keyboard.onPasted?.();
  }

  /** @param {unknown[]} packet  a program has copied something */
  copied([, selection, , target, type, , , data]) {
    if (selection === "CLIPBOARD" && target && data && /text|string/i.test(type)) {
      this.text = decode(data);
      this.offer(this.text);
    }
  }

  /** @param {string} text  for the local clipboard; tried again at the next key or click if the browser refuses now */
  offer(text) {
    this.pending = null;
    put(text).catch(() => {
      this.pending ??= text;
    });
  }

  /** @param {unknown[]} packet  a program asks for what was copied here */
  requested([, id, selection]) {
    const text = selection === "CLIPBOARD" ? this.text : "";
    this.client.send_clipboard_string(id, selection, binary(new TextEncoder().encode(text)), "UTF8_STRING");
  }
}
