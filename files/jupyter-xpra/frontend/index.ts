/** Displays in JupyterLab and Notebook: launcher, menu, commands, tabs, the panel of what runs, and notices. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ILabShell, ILayoutRestorer } from "@jupyterlab/application";
import { ICommandPalette, InputDialog, Notification, WidgetTracker } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { IMainMenu } from "@jupyterlab/mainmenu";
import { IRunningSessionManagers } from "@jupyterlab/running";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import type { TranslationBundle } from "@jupyterlab/translation";
import type { LabIcon } from "@jupyterlab/ui-components";
import { Menu } from "@lumino/widgets";
import { confirmStop, showLog } from "./dialogs";
import { Displays } from "./displays";
import { displayIcon, programIcon } from "./icons";
import { RefusedError, Requests } from "./request";
import { RunningDisplays } from "./running";
import style from "./style.css";
import { explain } from "./texts";
import type { IDisplay, IProgram, ISize, IStatus, IWish, Kind } from "./tokens";
import { CONTEXT, CommandIDs, DOMAIN, NAME, PLUGIN } from "./tokens";
import { DisplayWidget, newKey } from "./widget";

const CONTEXT_ITEM = `.jp-RunningSessions-item[data-context^="${CONTEXT}"]`;
/** Of the launcher's sections: notebooks have 0, consoles 20. */
const AFTER_NOTEBOOKS = 10;
const TAB = '.lm-TabBar-tab[data-type="display"]';

interface ISettings {
  readonly openIn: "tab" | "browser";
  readonly kind: Kind;
  readonly size: string;
}

const sizeOf = (text: string): ISize | undefined => {
  const [width, height] = text.split("x").map(Number);
  return width && height ? { width, height } : undefined;
};

/** Put the titles and descriptions of a schema into the reader's language: the server has no means to. */
const translated = (value: unknown, trans: TranslationBundle, key = ""): unknown => {
  if (typeof value === "string") {
    return ["title", "description", "jupyter.lab.setting-icon-label"].includes(key) ? trans.__(value) : value;
  }
  if (Array.isArray(value)) {
    return value.map((item) => translated(item, trans));
  }
  return value !== null && typeof value === "object"
    ? Object.fromEntries(Object.entries(value).map(([name, item]) => [name, translated(item, trans, name)]))
    : value;
};

const activate = (
  app: JupyterFrontEnd,
  translator_: ITranslator | null,
  labShell: ILabShell | null,
  restorer: ILayoutRestorer | null,
  palette: ICommandPalette | null,
  launcher: ILauncher | null,
  mainMenu: IMainMenu | null,
  running: IRunningSessionManagers | null,
  registry: ISettingRegistry | null,
): void => {
  const { commands, contextMenu, serviceManager, shell } = app;
  const translator = translator_ ?? nullTranslator;
  const trans = translator.load(DOMAIN);
  const language = translator.languageCode.replace("_", "-");
  const requests = new Requests(serviceManager.serverSettings);
  const displays = new Displays(requests, serviceManager.events);
  const tracker = new WidgetTracker<DisplayWidget>({ namespace: NAME });
  const programs = new Map<string, { program: IProgram; icon: LabIcon }>();
  let kinds: readonly Kind[] = [];
  let settings: ISettings = { openIn: "tab", kind: "desktop", size: "" };

  const sheet = document.createElement("style");
  sheet.textContent = style;
  document.head.append(sheet);

  const explained = ({ cause, reason }: { cause: string; reason: string }): string =>
    explain(trans, language.startsWith("en"), cause, reason);
  const pageOf = (display: IDisplay): string => {
    const url = new URL(display.url, serviceManager.serverSettings.baseUrl);
    url.searchParams.set("lang", language.split("-")[0] ?? "en");
    return url.href;
  };
  const iconOf = (display: IDisplay): LabIcon => programs.get(display.program ?? "")?.icon ?? displayIcon;
  const showError = async (title: string, error: unknown): Promise<void> => {
    const refused = error instanceof RefusedError ? error : null;
    const reason = error instanceof Error ? error.message : String(error);
    await showLog(trans, title, explained({ cause: refused?.word ?? "", reason }), refused?.log ?? "");
  };

  // -- showing ----------------------------------------------------------------------------------------------------

  /** Show in JupyterLab what is or will be a display. */
  const addTab = (label: string, icon: LabIcon, coming: Promise<IDisplay>, key = newKey()): DisplayWidget => {
    const shown = coming.then((display) => ({ display, page: pageOf(display) }));
    const widget = new DisplayWidget(key, label, icon, shown);
    void tracker.add(widget);
    shell.add(widget, "main", { type: "Display" });
    shell.activateById(widget.id);
    widget.revealed.then(() => tracker.save(widget), () => {
      widget.dispose();
    });
    return widget;
  };
  const openTab = (display: IDisplay, key?: string): DisplayWidget => {
    const there = tracker.find((widget) => widget.displayId === display.id);
    if (there) {
      shell.activateById(there.id);
      return there;
    }
    return addTab(display.name, iconOf(display), Promise.resolve(display), key);
  };
  const openPage = (display: IDisplay): void => {
    window.open(pageOf(display), "_blank", "noopener");
  };
  const opensInBrowser = (): boolean => labShell === null || settings.openIn === "browser";
  const open = (display: IDisplay): DisplayWidget | undefined => {
    if (display.state === "failed") {
      void commands.execute(CommandIDs.showLog, { id: display.id });
      return undefined;
    }
    if (opensInBrowser()) {
      openPage(display);
      return undefined;
    }
    return openTab(display);
  };
  const start = async (wish: IWish, label: string, icon: LabIcon): Promise<DisplayWidget | undefined> => {
    const inBrowser = opensInBrowser();
    // At once: a browser lets a page open another only right after a click or a key.
    const page = inBrowser ? window.open("about:blank", "_blank") : null;
    const size = sizeOf(settings.size);
    const coming = displays.create({ ...wish, ...(size && { size }) });
    const widget = inBrowser ? undefined : addTab(label, icon, coming);
    try {
      const display = await coming;
      if (page) {
        page.opener = null;
        page.location.replace(pageOf(display));
      } else if (inBrowser) {
        Notification.info(trans.__("The browser has kept “%1” from opening.", display.name), {
          autoClose: false,
          actions: [{ label: trans.__("Open"), displayType: "accent", callback: () => { openPage(display); } }],
        });
      }
      return widget;
    } catch (error) {
      page?.close();
      await showError(trans.__("“%1” could not be started", label), error);
      return undefined;
    }
  };

  // -- commands ---------------------------------------------------------------------------------------------------

  /** The display that a command is for: named, pointed at, or in the current tab. */
  const target = (args: { id?: unknown }): IDisplay | undefined => {
    if (typeof args.id === "string") {
      return displays.get(args.id);
    }
    const node = app.contextMenuHitTest((element) => element.dataset["context"]?.startsWith(CONTEXT) ?? false);
    if (node) {
      return displays.get(node.dataset["context"]?.slice(CONTEXT.length) ?? "");
    }
    const tab = app.contextMenuHitTest((element) => element.dataset["type"] === "display");
    const widget = tab
      ? tracker.find((shown) => shown.id === tab.dataset["id"])
      : shell.currentWidget instanceof DisplayWidget ? shell.currentWidget : undefined;
    return widget ? displays.get(widget.displayId) : undefined;
  };
  const programOf = (args: { program?: unknown }): { program: IProgram; icon: LabIcon } | undefined =>
    programs.get(typeof args.program === "string" ? args.program : "");
  const unusedName = (title: string): string => {
    const used = new Set(displays.list().map(({ name }) => name));
    let name = title;
    for (let number = 2; used.has(name); number++) {
      name = `${title} ${number}`;
    }
    return name;
  };
  const isRunning = (args: { id?: unknown }): boolean => target(args)?.state === "running";

  commands.addCommand(CommandIDs.create, {
    label: (args) => {
      const title = programOf(args)?.program.title ?? trans.__("Display");
      return args["isPalette"] ? trans.__("Start “%1”", title) : title;
    },
    caption: (args) => {
      const title = programOf(args)?.program.title;
      return title ? trans.__("Start “%1” and show its windows here", title) : trans.__("Start a display");
    },
    icon: (args) => programOf(args)?.icon ?? displayIcon,
    execute: (args) => {
      const offered = programOf(args);
      const wish: IWish = offered
        ? { program: offered.program.name }
        : {
          // The server would name it by its window manager.
          name: unusedName(trans.__("Display")),
          kind: kinds.includes(settings.kind) ? settings.kind : "seamless",
        };
      return start(wish, offered?.program.title ?? trans.__("Display"), offered?.icon ?? displayIcon);
    },
  });
  commands.addCommand(CommandIDs.runCommand, {
    label: trans.__("Run a Command in a Display…"),
    icon: displayIcon,
    execute: async () => {
      const { value } = await InputDialog.getText({
        title: trans.__("Run a command in a display"),
        label: trans.__("Command"),
        placeholder: "xterm -e top",
        okLabel: trans.__("Start"),
        cancelLabel: trans.__("Cancel"),
      });
      const command = value?.trim();
      return command ? start({ command }, command, displayIcon) : undefined;
    },
  });
  commands.addCommand(CommandIDs.open, {
    label: trans.__("Open Display"),
    isEnabled: (args) => target(args) !== undefined,
    execute: async (args) => {
      await displays.ready;
      const display = target(args);
      if (display && typeof args["key"] === "string") {
        // A tab of the layout that was kept.
        return display.state === "running" ? openTab(display, args["key"]) : undefined;
      }
      return display && open(display);
    },
  });
  commands.addCommand(CommandIDs.openInBrowser, {
    label: trans.__("Open Display in Browser Tab"),
    isEnabled: isRunning,
    execute: (args) => {
      const display = target(args);
      if (display) {
        openPage(display);
      }
    },
  });
  commands.addCommand(CommandIDs.rename, {
    label: trans.__("Rename Display…"),
    isEnabled: (args) => target(args) !== undefined,
    execute: async (args) => {
      const display = target(args);
      if (!display) {
        return;
      }
      const { value } = await InputDialog.getText({
        title: trans.__("Rename the display"),
        label: trans.__("Name"),
        text: display.name,
        okLabel: trans.__("Rename"),
        cancelLabel: trans.__("Cancel"),
      });
      if (value && value !== display.name) {
        await displays.rename(display.id, value).catch((error: unknown) =>
          showError(trans.__("“%1” could not be renamed", display.name), error));
      }
    },
  });
  commands.addCommand(CommandIDs.stop, {
    label: (args) => target(args)?.state === "failed" ? trans.__("Remove from the List") : trans.__("Stop Display"),
    isEnabled: (args) => target(args) !== undefined,
    execute: async (args) => {
      const display = target(args);
      if (!display) {
        return;
      }
      if (display.state === "failed" || await confirmStop(trans, trans.__("Stop “%1”?", display.name))) {
        await displays.stop(display.id).catch((error: unknown) =>
          showError(trans.__("“%1” could not be stopped", display.name), error));
      }
    },
  });
  commands.addCommand(CommandIDs.stopAll, {
    label: trans.__("Stop All Displays"),
    isEnabled: () => displays.list().length > 0,
    execute: async () => {
      if (await confirmStop(trans, trans.__("Stop all displays?"))) {
        await displays.stopAll();
      }
    },
  });
  commands.addCommand(CommandIDs.showLog, {
    label: trans.__("Show Log"),
    isEnabled: (args) => target(args)?.state === "failed",
    execute: async (args) => {
      const display = target(args);
      if (display) {
        await showLog(trans, display.name, explained(display), display.log);
      }
    },
  });

  // -- places -----------------------------------------------------------------------------------------------------

  const category = trans.__("Displays");
  const menu = new Menu({ commands });
  menu.title.label = trans.__("Display");
  menu.title.icon = displayIcon;
  mainMenu?.fileMenu.newMenu.addGroup([{ type: "submenu", submenu: menu }], 40);
  for (const [selector, command, rank] of [
    [CONTEXT_ITEM, CommandIDs.openInBrowser, 0],
    [CONTEXT_ITEM, CommandIDs.rename, 1],
    [CONTEXT_ITEM, CommandIDs.showLog, 2],
    [CONTEXT_ITEM, CommandIDs.stop, 3],
    [TAB, CommandIDs.openInBrowser, 0],
    [TAB, CommandIDs.rename, 1],
    [TAB, CommandIDs.stop, 2],
  ] as const) {
    contextMenu.addItem({ selector, command, rank });
  }
  for (const id of [CommandIDs.openInBrowser, CommandIDs.rename, CommandIDs.stop, CommandIDs.stopAll]) {
    palette?.addItem({ command: id, category });
  }

  const offer = (status: IStatus): void => {
    kinds = status.kinds;
    // An empty display first, then what the administrator offers, if it is installed.
    const offers: { program?: string }[] = [{}];
    for (const program of status.programs) {
      if (program.available) {
        programs.set(program.name, { program, icon: programIcon(program) });
        offers.push({ program: program.name });
      }
    }
    for (const [rank, args] of offers.entries()) {
      launcher?.add({ command: CommandIDs.create, args, category, categoryRank: AFTER_NOTEBOOKS, rank });
      palette?.addItem({ command: CommandIDs.create, args: { ...args, isPalette: true }, category });
      menu.addItem({ command: CommandIDs.create, args });
    }
    palette?.addItem({ command: CommandIDs.runCommand, category });
    menu.addItem({ type: "separator" });
    menu.addItem({ command: CommandIDs.runCommand });
  };
  // Without the server's side there is nothing to offer.
  const offered = requests.status().then(offer, () => undefined);

  running?.add(new RunningDisplays(displays, requests, {
    icon: iconOf,
    open: (display) => {
      open(display);
    },
    stop: (display) => {
      void commands.execute(CommandIDs.stop, { id: display.id });
    },
  }, translator));

  // -- events -----------------------------------------------------------------------------------------------------

  const notices = new Map<string, string>();
  displays.died.connect((_sender, display) => {
    notices.set(display.id, Notification.error(`${display.name}: ${explained(display)}`, {
      autoClose: false,
      actions: [{
        label: trans.__("Show Log"),
        displayType: "accent",
        callback: () => {
          void showLog(trans, display.name, explained(display), (displays.get(display.id) ?? display).log);
        },
      }],
    }));
  });
  displays.changed.connect((_sender, event) => {
    commands.notifyCommandChanged();
    for (const widget of tracker.filter(() => true)) {
      const display = displays.get(widget.displayId);
      if (display) {
        widget.rename(display.name);
      } else if (widget.displayId) {
        widget.dispose();
      }
    }
    const notice = event?.action === "removed" ? notices.get(event.display.id) : undefined;
    if (notice) {
      Notification.dismiss(notice);
    }
  });

  // What happened before the events' WebSocket was there.
  void app.restored.then(() => displays.refresh());

  // -- what is kept -----------------------------------------------------------------------------------------------

  registry?.transform(PLUGIN, {
    fetch: (loaded) => ({ ...loaded, schema: translated(loaded.schema, trans) as ISettingRegistry.ISchema }),
  });
  void registry?.load(PLUGIN).then((loaded) => {
    const read = (): void => {
      settings = loaded.composite as unknown as ISettings;
    };
    loaded.changed.connect(read);
    read();
  });
  if (restorer) {
    void restorer.restore(tracker, {
      command: CommandIDs.open,
      args: ({ displayId, key }) => ({ id: displayId, key }),
      name: ({ key }) => key,
      when: [offered, displays.ready],
    });
  }
};

const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN,
  description: "Displays: programs with windows, in the browser.",
  autoStart: true,
  optional: [
    ITranslator,
    ILabShell,
    ILayoutRestorer,
    ICommandPalette,
    ILauncher,
    IMainMenu,
    IRunningSessionManagers,
    ISettingRegistry,
  ],
  activate,
};

export default plugin;
