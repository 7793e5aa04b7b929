// Where the screen has more pixels than a page counts, or the page is zoomed, the display gets each of the screen's pixels:
// it is shown in a frame that is so much larger and scaled down. Inside, the client's coordinates hold as they are.
// Loaded first of all in the page.
(() => {
  "use strict";
  const url = new URL(location.href);
  if (window.devicePixelRatio === 1 || url.searchParams.has("scaled")) {
    return;
  }
  // What follows in the page is text that nobody sees.
  document.write("<body><plaintext hidden>");
  url.searchParams.set("scaled", "");
  const frame = document.createElement("iframe");
  frame.src = url.href;
  frame.allow = "clipboard-read; clipboard-write; fullscreen";
  document.body.style.cssText = "margin: 0; overflow: hidden; position: fixed; inset: 0";
  const fit = () => {
    const scale = window.devicePixelRatio;
    frame.style.cssText = `display: block; border: 0; transform-origin: 0 0; transform: scale(${1 / scale});
      width: ${Math.round(window.innerWidth * scale)}px; height: ${Math.round(window.innerHeight * scale)}px`;
  };
  fit();
  window.addEventListener("resize", fit);
  const focus = () => frame.contentWindow.focus();
  frame.addEventListener("load", () => {
    document.title = frame.contentDocument.title;
    focus();
  });
  window.addEventListener("focus", focus);
  document.body.prepend(frame);
})();
