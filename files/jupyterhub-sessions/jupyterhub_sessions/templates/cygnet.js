// What upstream's scripts write is English and part of their code: sentences are recognised (upstream.py) and replaced
// as they appear. Times are shown by ourselves: upstream's moment.js is loaded without its languages.
window.cygnet = (() => {
  "use strict";
  const sentences = {{ script_sentences() | tojson }}.map(([pattern, ours]) => [new RegExp(`^${pattern}$`, "s"), ours]);

  const translate = (text) => {
    const trimmed = text.trim();
    for (const [pattern, ours] of sentences) {
      const match = pattern.exec(trimmed);
      if (match) {
        const values = { ...match.groups };
        if (values.reason) {
          values.reason = translate(values.reason);
        }
        return ours.replace(/%\((\w+)\)s/g, (_, name) => values[name] ?? "");
      }
    }
    return text;
  };

  const translateNode = (node) => {
    if (node.nodeType === Node.TEXT_NODE) {
      const ours = translate(node.data);
      if (ours !== node.data) {
        node.data = ours;
      }
    } else if (node.nodeType === Node.ELEMENT_NODE) {
      if (node.title && translate(node.title) !== node.title) {
        node.title = translate(node.title);
      }
      // A log shows what programs wrote, not what the hub says.
      if (!node.closest("pre, script, style")) {
        node.childNodes.forEach(translateNode);
      }
    }
  };

  new MutationObserver((changes) => {
    for (const change of changes) {
      (change.type === "childList" ? change.addedNodes : [change.target]).forEach(translateNode);
    }
  }).observe(document.documentElement, {
    subtree: true, childList: true, characterData: true, attributeFilter: ["title"],
  });

  const confirm = window.confirm.bind(window);
  window.confirm = (question) => confirm(translate(question));

  const units = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
  const ago = (date) => {
    const format = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "auto" });
    const seconds = (date - Date.now()) / 1000;
    const [unit, length] = units.find(([, length]) => Math.abs(seconds) >= length) ?? ["minute", 60];
    return format.format(Math.round(seconds / length), unit);
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const element of document.querySelectorAll("time[datetime]")) {
      const date = new Date(element.dateTime);
      if (!Number.isNaN(date.valueOf())) {
        const clock = date.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
        const clockFirst = element.hasAttribute("data-clock");
        element.textContent = clockFirst ? clock : ago(date);
        element.title = clockFirst ? ago(date) : clock;
      }
    }
  });

  return { translate };
})();
