/** What the parts of the front end have in common: identifiers, and what the server speaks of (openapi.yaml). */
import type { ISignal } from "@lumino/signaling";

export const NAME = "jupyter-xpra";
export const PLUGIN = `${NAME}:plugin`;
/** The translations' domain, and the file's name in locale/. */
export const DOMAIN = "jupyter_xpra";
export const EVENT_SCHEMA = "https://events.jupyter.org/jupyter_xpra/display/v1";
/** In `data-context` of an item of the panel of what runs, before the display's id. */
export const CONTEXT = "display:";

export const CommandIDs = {
  /** Start a display: `program`, `command` or neither. */
  create: "display:create",
  /** Ask for a command, and start a display with it. */
  runCommand: "display:run-command",
  /** Show a display by its `id`. */
  open: "display:open",
  /** Show the display at hand in a tab of the browser. */
  openInBrowser: "display:open-in-browser",
  rename: "display:rename",
  stop: "display:stop",
  stopAll: "display:stop-all",
  showLog: "display:show-log",
} as const;

export type Kind = "seamless" | "desktop";

export interface ISize {
  readonly width: number;
  readonly height: number;
}

export interface IDisplay {
  readonly id: string;
  readonly name: string;
  readonly kind: Kind;
  readonly state: "starting" | "running" | "failed" | "ended";
  readonly url: string;
  readonly program: string | null;
  readonly default: boolean;
  readonly cause: string;
  readonly reason: string;
  readonly log: string;
}

export interface IProgram {
  readonly name: string;
  readonly title: string;
  readonly icon: string;
  readonly kind: Kind;
  readonly available: boolean;
}

export interface IStatus {
  readonly problem: string;
  readonly kinds: readonly Kind[];
  readonly programs: readonly IProgram[];
}

export interface IUsage {
  /** In bytes. */
  readonly memory: number;
  readonly programs: readonly string[];
}

export interface IWish {
  readonly name?: string;
  readonly program?: string;
  readonly command?: string;
  readonly kind?: Kind;
  readonly size?: ISize;
}

export interface IDisplayEvent {
  readonly action: "created" | "updated" | "removed";
  readonly display: IDisplay;
}

/** The user's displays, kept up to date by the server's events. */
export interface IDisplays {
  /** Settled once the list is there. */
  readonly ready: Promise<void>;
  readonly changed: ISignal<IDisplays, IDisplayEvent | null>;
  /** A display that ran has died. */
  readonly died: ISignal<IDisplays, IDisplay>;
  list(): readonly IDisplay[];
  get(id: string): IDisplay | undefined;
  /** Answers when it runs, which is earlier than the server's answer. */
  create(wish: IWish): Promise<IDisplay>;
  rename(id: string, name: string): Promise<void>;
  stop(id: string): Promise<void>;
  stopAll(): Promise<void>;
  /** Ask for the list anew, as events get lost while the network is away. */
  refresh(): Promise<void>;
}
