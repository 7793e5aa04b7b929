/**
 * Write what browsers are given, from its sources: `npm run build`. With `--check` say instead whether the committed
 * files are those. They are committed as there is no Node.js where the package is installed from.
 */
import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import esbuild from "esbuild";

process.chdir(import.meta.dirname);
const SHARED = Object.keys(JSON.parse(await readFile("package.json", "utf8")).dependencies);

/** Imports of packages that JupyterLab shares with extensions are what it has handed over (frontend/remote.ts). */
const sharing = {
  name: "sharing",
  setup: (build) => {
    build.onResolve({ filter: /^[^.]/ }, ({ path, kind }) => {
      if (kind === "entry-point") {
        return null;
      }
      return SHARED.includes(path)
        ? { path, namespace: "shared" }
        : { errors: [{ text: `${path} is not among the dependencies of package.json.` }] };
    });
    build.onLoad({ filter: /.*/, namespace: "shared" }, ({ path }) => ({
      contents: `import { shared } from "./frontend/remote"; module.exports = shared.get(${JSON.stringify(path)});`,
      resolveDir: ".",
    }));
  },
};

const options = (source) => ({
  banner: { js: `// Built from ${source} by \`npm run build\`: change it there.` },
  bundle: true,
  charset: "utf8",
  format: "iife",
  legalComments: "none",
  target: "es2022",
  write: false,
});

const BUNDLES = [
  {
    ...options("page/"),
    entryPoints: ["page/display.js"],
    outfile: "jupyter_xpra/static/display.js",
  },
  {
    ...options("frontend/"),
    entryPoints: ["frontend/remote.ts"],
    outfile: "labextension/static/remoteEntry.js",
    define: { SHARED: JSON.stringify(SHARED) },
    loader: { ".css": "text", ".svg": "text" },
    plugins: [sharing],
  },
];

for (const bundle of BUNDLES) {
  const { outputFiles } = await esbuild.build(bundle);
  for (const { contents } of outputFiles) {
    if (!process.argv.includes("--check")) {
      await writeFile(bundle.outfile, contents);
    } else if (!(await readFile(bundle.outfile).catch(() => Buffer.of())).equals(contents)) {
      console.error(`files/jupyter-xpra/${bundle.outfile} is not what its sources make: run \`npm run build\` there.`);
      process.exitCode = 1;
    }
  }
}
