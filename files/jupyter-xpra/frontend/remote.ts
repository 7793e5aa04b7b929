/**
 * What JupyterLab and Notebook load. They hand over the packages that they share with extensions (module federation's share
 * scope), and get the plugin; `build.mjs` turns each import of such a package into a look-up in `shared`.
 */
import { NAME } from "./tokens";

type Factory = () => unknown;
type Scope = Record<string, Record<string, { get: () => Promise<Factory> | Factory }>>;

interface IContainer {
  init: (scope: Scope) => void;
  get: (module: string) => Promise<Factory>;
}

declare global {
  interface Window {
    _JUPYTERLAB?: Record<string, IContainer>;
  }
}

/** The packages' names, from package.json. */
declare const SHARED: readonly string[];
export const shared = new Map<string, unknown>();
let scope: Scope = {};

const container: IContainer = {
  init: (given) => {
    scope = given;
  },
  get: async () => {
    await Promise.all(SHARED.map(async (name) => {
      // All are singletons there, but for what another extension brings besides: theirs comes first.
      const [version] = Object.values(scope[name] ?? {});
      if (version) {
        shared.set(name, (await version.get())());
      }
    }));
    const { default: plugin } = await import("./index");
    return () => ({ __esModule: true, default: plugin });
  },
};

window._JUPYTERLAB = { ...window._JUPYTERLAB, [NAME]: container };
