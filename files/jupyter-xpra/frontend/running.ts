/** The displays in the panel of what runs. */
import type { IRunningSessions } from "@jupyterlab/running";
import type { ITranslator, TranslationBundle } from "@jupyterlab/translation";
import type { LabIcon } from "@jupyterlab/ui-components";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";
import { createElement } from "react";
import type { Requests } from "./request";
import { explain } from "./texts";
import type { IDisplay, IDisplays, IUsage } from "./tokens";
import { CONTEXT, DOMAIN } from "./tokens";

/** What is shown of a display is asked for when the panel is looked at, and not again so soon. */
const FRESH_MS = 15_000;
/** There is no picture before there is a window. */
const PICTURE_MS = 1500;
const MOST_TRIES = 8;
const MEBIBYTE = 2 ** 20;

interface IDetails {
  asked: number;
  tries: number;
  usage?: IUsage;
  thumbnail?: string;
}

const isShown = (): boolean =>
  [...document.querySelectorAll(".jp-RunningSessions")].some((panel) => panel.checkVisibility());

interface IActions {
  open: (display: IDisplay) => void;
  stop: (display: IDisplay) => void;
  icon: (display: IDisplay) => LabIcon;
}

export class RunningDisplays implements IRunningSessions.IManager {
  readonly name: string;
  readonly shutdownAllLabel: string;
  readonly shutdownAllConfirmationText: string;
  private readonly trans: TranslationBundle;
  private readonly english: boolean;
  private readonly memory: Intl.NumberFormat;
  private readonly details = new Map<string, IDetails>();
  private readonly _runningChanged = new Signal<this, void>(this);

  constructor(
    private readonly displays: IDisplays,
    private readonly requests: Requests,
    private readonly actions: IActions,
    translator: ITranslator,
  ) {
    this.trans = translator.load(DOMAIN);
    const language = translator.languageCode.replace("_", "-");
    this.english = language.startsWith("en");
    this.memory = new Intl.NumberFormat(language, { style: "unit", unit: "megabyte", maximumFractionDigits: 0 });
    this.name = this.trans.__("Displays");
    this.shutdownAllLabel = this.trans.__("Stop All");
    this.shutdownAllConfirmationText = this.trans.__(
      "Stop all displays? The programs in them end, and what they have not saved is lost.",
    );
    displays.changed.connect((_sender, event) => {
      if (event?.action === "removed") {
        this.forget(event.display.id);
      }
      this._runningChanged.emit();
    });
  }

  get runningChanged(): ISignal<this, void> {
    return this._runningChanged;
  }

  readonly shutdownLabel = (item: IRunningSessions.IRunningItem): string => {
    const display = this.displays.get(item.context?.slice(CONTEXT.length) ?? "");
    return display?.state === "failed" ? this.trans.__("Remove from the List") : this.trans.__("Stop");
  };

  running(): IRunningSessions.IRunningItem[] {
    return this.displays.list().map((display) => {
      const details = display.state === "running" ? this.look(display) : undefined;
      return {
        context: CONTEXT + display.id,
        className: `jp-Displays-item jp-mod-${display.state}`,
        icon: () => details?.thumbnail ?? this.actions.icon(display),
        // Two lines. The panel's search wants a list in each element.
        label: () => [
          createElement("span", { key: "name", children: [display.name] }),
          createElement("span", { key: "detail", className: "jp-Displays-detail", children: [this.detail(display, details)] }),
        ],
        labelTitle: () => [display.name, this.detail(display, details)].filter(Boolean).join("\n"),
        open: () => {
          this.actions.open(display);
        },
        shutdown: () => {
          this.actions.stop(display);
        },
      };
    });
  }

  shutdownAll(): void {
    void this.displays.stopAll();
  }

  refreshRunning(): void {
    for (const details of this.details.values()) {
      details.asked = 0;
    }
    void this.displays.refresh();
  }

  private detail(display: IDisplay, details?: IDetails): string {
    switch (display.state) {
      case "starting":
        return this.trans.__("starting");
      case "failed":
        return explain(this.trans, this.english, display.cause, display.reason);
      default:
        return details?.usage
          ? [...new Set(details.usage.programs), this.memory.format(details.usage.memory / MEBIBYTE)].join(" · ")
          : "";
    }
  }

  /** Return what is known of a display, and ask anew if it is old. */
  private look(display: IDisplay): IDetails {
    const details = this.details.get(display.id) ?? { asked: 0, tries: 0 };
    this.details.set(display.id, details);
    // The panel also asks while it is hidden, and just before it is shown.
    requestAnimationFrame(() => {
      if (Date.now() - details.asked > FRESH_MS && isShown()) {
        details.asked = Date.now();
        void this.ask(display.id, details);
      }
    });
    return details;
  }

  private async ask(id: string, details: IDetails): Promise<void> {
    const [usage, thumbnail] = await Promise.allSettled([this.requests.usage(id), this.requests.thumbnail(id)]);
    if (this.details.get(id) !== details) {
      return;
    }
    if (usage.status === "fulfilled") {
      details.usage = usage.value;
    }
    if (thumbnail.status === "fulfilled") {
      if (details.thumbnail) {
        URL.revokeObjectURL(details.thumbnail);
      }
      details.thumbnail = URL.createObjectURL(thumbnail.value);
    } else if (!details.thumbnail && ++details.tries < MOST_TRIES) {
      setTimeout(() => {
        details.asked = 0;
        this._runningChanged.emit();
      }, PICTURE_MS);
    }
    this._runningChanged.emit();
  }

  private forget(id: string): void {
    const thumbnail = this.details.get(id)?.thumbnail;
    if (thumbnail) {
      URL.revokeObjectURL(thumbnail);
    }
    this.details.delete(id);
  }
}
