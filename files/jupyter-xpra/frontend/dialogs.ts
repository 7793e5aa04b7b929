/** What is asked and told in dialogs. */
import { Dialog, showDialog } from "@jupyterlab/apputils";
import type { TranslationBundle } from "@jupyterlab/translation";
import { Widget } from "@lumino/widgets";

/** Show a sentence and, if there is one, a log. */
export const showLog = async (trans: TranslationBundle, title: string, message: string, log: string): Promise<void> => {
  const body = new Widget();
  body.addClass("jp-Display-log");
  const paragraph = document.createElement("p");
  paragraph.textContent = message;
  body.node.append(paragraph);
  if (log) {
    const lines = document.createElement("pre");
    lines.textContent = log;
    // Long ones are scrolled by keys too.
    lines.tabIndex = 0;
    lines.setAttribute("aria-label", trans.__("The end of its log"));
    body.node.append(lines);
    // The last ones tell most.
    requestAnimationFrame(() => {
      lines.scrollTop = lines.scrollHeight;
    });
  }
  await showDialog({ title, body, buttons: [Dialog.okButton({ label: trans.__("Close") })] });
};

/** Ask before programs are ended. */
export const confirmStop = async (trans: TranslationBundle, title: string): Promise<boolean> => {
  const answer = await showDialog({
    title,
    body: trans.__("The programs in it end, and what they have not saved is lost."),
    buttons: [
      Dialog.cancelButton({ label: trans.__("Cancel") }),
      Dialog.warnButton({ label: trans.__("Stop") }),
    ],
  });
  return answer.button.accept;
};
