// Put into each page before its own scripts: what is painted on its visible canvases, and when. Xpra's client and noVNC both
// copy each picture with drawImage or putImageData from where they make it ready to the canvas that is seen. Before it stands
// what sets benchColour, [red, green, blue]: that of the window that is waited for.
"use strict";

(() => {
  if (window.bench) {
    return;
  }
  // JPEG and WebP do not keep a colour exactly.
  const TOLERANCE = 24;
  const LEAST_WIDTH = 200;
  const LEAST_HEIGHT = 100;
  const QUIET_MS = 300;
  const MOST_ROUNDS = 100;
  // Smaller spots of a window's colour are not yet the window.
  const LEAST_PIXELS = 10000;
  // The pointer alone, which VNC's server may draw, is no picture.
  const LEAST_PICTURE = 1000;
  const prototype = CanvasRenderingContext2D.prototype;
  const getImageData = prototype.getImageData;
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const now = () => performance.timeOrigin + performance.now();

  const isSeen = (canvas) =>
    canvas instanceof HTMLCanvasElement &&
    canvas.width >= LEAST_WIDTH &&
    canvas.height >= LEAST_HEIGHT &&
    canvas.getClientRects().length > 0;

  const read = (canvas, { x, y, width, height } = { x: 0, y: 0, width: canvas.width, height: canvas.height }) =>
    getImageData.call(canvas.getContext("2d"), x, y, width, height).data;

  const isNear = (data, at, [red, green, blue]) =>
    Math.abs(data[at] - red) <= TOLERANCE &&
    Math.abs(data[at + 1] - green) <= TOLERANCE &&
    Math.abs(data[at + 2] - blue) <= TOLERANCE;

  /** The box of all pixels of a colour on a canvas, in its pixels, or null where there are too few for a window. */
  const boxOf = (canvas, colour) => {
    const data = read(canvas);
    let [left, top, right, bottom, count] = [canvas.width, canvas.height, -1, -1, 0];
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] && isNear(data, at, colour)) {
        const x = (at / 4) % canvas.width;
        const y = Math.floor(at / 4 / canvas.width);
        count++;
        left = Math.min(left, x);
        right = Math.max(right, x);
        top = Math.min(top, y);
        bottom = y;
      }
    }
    return count < LEAST_PIXELS ? null : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
  };

  const hasPicture = (canvas) => {
    const data = read(canvas);
    let count = 0;
    for (let at = 4; at < data.length && count < LEAST_PICTURE; at += 4) {
      count += !isNear(data, at, data);
    }
    return count === LEAST_PICTURE;
  };

  const isChanged = (before, after) => {
    for (let at = 0; at < before.length; at += 4) {
      if (!isNear(before, at, [after[at], after[at + 1], after[at + 2]])) {
        return true;
      }
    }
    return false;
  };

  // What a key is to change: canvas, box, what was there; and when the key came.
  let armed = null;
  let painted = 0;
  let isLooking = true;

  const bench = {
    // When there was for the first time a picture of more than one colour, and a window of the colour that is waited for, in
    // milliseconds since 1970.
    picture: null,
    window: null,

    /** Where a window of a colour is in the page: its middle, and its size; null if nowhere. */
    find(colour) {
      for (const canvas of document.querySelectorAll("canvas")) {
        const box = isSeen(canvas) && boxOf(canvas, colour);
        if (box) {
          const place = canvas.getBoundingClientRect();
          const scale = place.width / canvas.width;
          const middle = (start, from, size) => start + (from + size / 2) * scale;
          return {
            x: middle(place.x, box.x, box.width),
            y: middle(place.y, box.y, box.height),
            width: box.width * scale,
            height: box.height * scale,
          };
        }
      }
      return null;
    },

    /** Wait until the window of a colour rests, and from then on for what a key changes there; false if it never does. */
    async arm(colour) {
      armed = null;
      for (const canvas of document.querySelectorAll("canvas")) {
        const box = isSeen(canvas) && boxOf(canvas, colour);
        if (box) {
          bench.latency = null;
          let before = read(canvas, box);
          for (let round = 0; round < MOST_ROUNDS; round++) {
            await sleep(QUIET_MS);
            const after = read(canvas, box);
            if (!isChanged(before, after)) {
              armed = { canvas, box, before: after, pressed: null };
              return true;
            }
            before = after;
          }
        }
      }
      return false;
    },

    // How many milliseconds there were between the key and what it changed.
    latency: null,

    /** Count for some seconds the frames of the browser for which anything was painted. */
    async count(seconds) {
      isLooking = false;
      const begin = performance.now();
      let [seen, frames, elapsed] = [painted, 0, 0];
      while ((elapsed = performance.now() - begin) < seconds * 1000) {
        await new Promise(requestAnimationFrame);
        frames += painted > seen;
        seen = painted;
      }
      return (frames * 1000) / elapsed;
    },
  };

  const look = (canvas, moment) => {
    if (isLooking && bench.picture === null && hasPicture(canvas)) {
      bench.picture = moment;
    }
    if (isLooking && bench.window === null && boxOf(canvas, window.benchColour)) {
      bench.window = moment;
    }
    if (armed?.pressed && armed.canvas === canvas && isChanged(armed.before, read(canvas, armed.box))) {
      bench.latency = moment - armed.pressed;
      armed = null;
    }
  };

  for (const name of ["drawImage", "putImageData"]) {
    const draw = prototype[name];
    prototype[name] = function (...args) {
      draw.apply(this, args);
      if (isSeen(this.canvas)) {
        painted++;
        look(this.canvas, now());
      }
    };
  }
  window.addEventListener(
    "keydown",
    (event) => {
      if (armed && armed.pressed === null) {
        armed.pressed = performance.timeOrigin + event.timeStamp;
      }
    },
    { capture: true },
  );
  window.bench = bench;
})();
