/** The user's displays as the server has them. */
import type { Event } from "@jupyterlab/services";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";
import { RefusedError } from "./request";
import type { Requests } from "./request";
import type { IDisplay, IDisplayEvent, IDisplays, IWish } from "./tokens";
import { EVENT_SCHEMA } from "./tokens";

export class Displays implements IDisplays {
  readonly ready: Promise<void>;
  private readonly displays = new Map<string, IDisplay>();
  private readonly _changed = new Signal<IDisplays, IDisplayEvent | null>(this);
  private readonly _died = new Signal<IDisplays, IDisplay>(this);
  /** Those that `create` has answered with, so that no two of its calls take the same for theirs. */
  private readonly claimed = new Set<string>();

  constructor(
    private readonly requests: Requests,
    events: Event.IManager,
  ) {
    events.stream.connect((_sender, event) => {
      if (event.schema_id === EVENT_SCHEMA) {
        this.take(event as unknown as IDisplayEvent);
      }
    });
    window.addEventListener("online", () => void this.refresh());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) {
        void this.refresh();
      }
    });
    this.ready = this.refresh();
  }

  get changed(): ISignal<IDisplays, IDisplayEvent | null> {
    return this._changed;
  }

  get died(): ISignal<IDisplays, IDisplay> {
    return this._died;
  }

  list(): readonly IDisplay[] {
    return [...this.displays.values()];
  }

  get(id: string): IDisplay | undefined {
    return this.displays.get(id);
  }

  async create(wish: IWish): Promise<IDisplay> {
    const known = new Set(this.displays.keys());
    let look: ((sender: IDisplays, event: IDisplayEvent | null) => void) | undefined;
    // The server waits with its answer for a program that ends at once; its event does not.
    const seen = new Promise<IDisplay>((resolve) => {
      look = (_sender, event) => {
        const display = event?.display;
        if (display?.state === "running" && !known.has(display.id) && !this.claimed.has(display.id)
          && display.program === (wish.program ?? null)) {
          resolve(display);
        }
      };
      this._changed.connect(look);
    });
    const answered = this.requests.create(wish);
    try {
      const display = await Promise.race([seen, answered]);
      this.claimed.add(display.id);
      return display;
    } finally {
      if (look) {
        this._changed.disconnect(look);
      }
      // What ends at once after all says so itself, by its events.
      answered.catch(() => undefined);
    }
  }

  async rename(id: string, name: string): Promise<void> {
    await this.requests.rename(id, name);
  }

  async stop(id: string): Promise<void> {
    try {
      await this.requests.remove(id);
    } catch (error) {
      // It has ended meanwhile.
      if (!(error instanceof RefusedError) || error.status !== 404) {
        throw error;
      }
    }
  }

  async stopAll(): Promise<void> {
    await Promise.all(this.list().map(({ id }) => this.stop(id)));
  }

  async refresh(): Promise<void> {
    let list: readonly IDisplay[];
    try {
      list = await this.requests.list();
    } catch {
      // The server is away; the next event, or the next look at the page, tells.
      return;
    }
    const before = new Map(this.displays);
    this.displays.clear();
    for (const display of list) {
      this.displays.set(display.id, display);
      if (before.get(display.id)?.state === "running" && display.state === "failed") {
        this._died.emit(display);
      }
    }
    this._changed.emit(null);
  }

  private take(event: IDisplayEvent): void {
    const { action, display } = event;
    const before = this.displays.get(display.id);
    if (action === "removed") {
      this.displays.delete(display.id);
    } else {
      this.displays.set(display.id, display);
    }
    if (before?.state === "running" && display.state === "failed") {
      this._died.emit(display);
    }
    this._changed.emit(event);
  }
}
