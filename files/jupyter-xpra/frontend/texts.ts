/** What the server says, in the reader's language. */
import type { TranslationBundle } from "@jupyterlab/translation";

/**
 * Say why a display has ended or was refused. The server's own sentence is more exact, but English; where there is a
 * translation for its reason's word, readers of another language get that one.
 */
export const explain = (trans: TranslationBundle, english: boolean, cause: string, sentence: string): string => {
  const sentences: Record<string, string> = {
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
    xpra: trans.__("Xpra ended unexpectedly."),
  };
  return english ? sentence : (sentences[cause] ?? sentence);
};
