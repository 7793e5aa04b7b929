/** A display in a tab of JupyterLab. */
import { MainAreaWidget } from "@jupyterlab/apputils";
import type { LabIcon } from "@jupyterlab/ui-components";
import type { Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import type { IDisplay } from "./tokens";
import { NAME } from "./tokens";

/** With Ctrl, Alt and Shift; K chooses keyboard layouts. */
const LEAVE_KEY = "KeyJ";

/** The frame with the display's page. */
class Frame extends Widget {
  private readonly frame = document.createElement("iframe");

  constructor() {
    super();
    // JupyterLab's own class: it keeps the frame from the mouse while tabs are dragged.
    this.addClass("jp-IFrame");
    this.addClass("jp-Display");
    this.frame.allow = "clipboard-read; clipboard-write; fullscreen";
    this.frame.addEventListener("load", () => {
      this.watchKeys(this.frame);
      if (document.activeElement === this.frame) {
        this.focusPage();
      }
    });
    // Has the focus when the display has let go of it.
    this.node.tabIndex = -1;
    this.node.append(this.frame);
  }

  load(page: string): void {
    this.frame.src = page;
  }

  rename(title: string): void {
    this.frame.title = title;
  }

  protected override onActivateRequest(_message: Message): void {
    this.focusPage();
  }

  /** All keys are the display's but one chord, by which those without a mouse get out of it. */
  private watchKeys(frame: HTMLIFrameElement): void {
    frame.contentWindow?.addEventListener("keydown", (event) => {
      if (event.code === LEAVE_KEY && event.ctrlKey && event.altKey && event.shiftKey) {
        event.preventDefault();
        event.stopImmediatePropagation();
        this.node.focus();
      }
    }, { capture: true });
    // Of a screen with many pixels the page puts itself into a frame of its own.
    const inner = frame.contentDocument?.querySelector("iframe");
    inner?.addEventListener("load", () => {
      this.watchKeys(inner);
    });
  }

  private focusPage(): void {
    // Not by its window: a dialog that is open could not take it back.
    this.frame.focus();
  }
}

/** Make a name for a tab that no other has, in this page or the next. */
export const newKey = (): string => `${Date.now()}-${Math.random().toString(36).slice(2)}`;

export class DisplayWidget extends MainAreaWidget<Frame> {
  /** Empty until the display runs. */
  displayId = "";

  /** `key` names the tab in the layout that is kept, which is earlier than there is a display. */
  constructor(
    readonly key: string,
    label: string,
    icon: LabIcon,
    coming: Promise<{ display: IDisplay; page: string }>,
  ) {
    super({
      content: new Frame(),
      reveal: coming.then(({ display, page }) => {
        this.displayId = display.id;
        this.rename(display.name);
        this.content.load(page);
      }),
    });
    this.id = `${NAME}-${key}`;
    this.title.icon = icon;
    this.title.closable = true;
    this.title.dataset = { type: "display", ...this.title.dataset };
    // Every line is the display's.
    this.toolbar.hide();
    this.rename(label);
  }

  rename(name: string): void {
    this.title.label = name;
    this.title.caption = name;
    this.content.rename(name);
  }
}
