/** How the content of each layer is made. */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { runProgram } from "../process/mod.ts";
import { UserError } from "../terminal/mod.ts";
import {
  pruneBase,
  unpackDebian,
  writeCertificateBundle,
} from "./debian_root.ts";
import {
  appFolder,
  basePackages,
  buildOnlyPackages,
  controllerPackages,
  type LayerName,
  user,
} from "./specs.ts";

export interface LayerContext {
  /** The checkout, set up: npm packages and addon are there. */
  readonly root: string;
  /** Empty; becomes the layer. */
  readonly folder: string;
  /** Leaves out of "app" what has to be compiled; for tests. */
  readonly sourcesOnly?: boolean;
}

type MakeLayer = (context: LayerContext) => Promise<void> | void;

export const makeLayer: Readonly<Record<LayerName, MakeLayer>> = {
  base: makeBase,
  bun: ({ root, folder }) =>
    addProgram(folder, join(root, "node_modules/@oven/bun-linux-x64/bin/bun")),
  // The one that runs this: the pinned version.
  deno: ({ folder }) => addProgram(folder, process.execPath, "deno"),
  nats: makeNats,
  modules: (context) =>
    makeModules(context, [...buildOnlyPackages, ...controllerPackages]),
  "controller-modules": (context) => makeModules(context, buildOnlyPackages),
  app: makeApp,
  cuda: makeCuda,
  "demo-models": makeDemoModels,
};

async function makeBase({ folder }: LayerContext): Promise<void> {
  await unpackDebian(basePackages, folder);
  writeCertificateBundle(folder);
  pruneBase(folder);
  const etc = join(folder, "etc");
  const { id, name } = user;
  writeFileSync(
    join(etc, "passwd"),
    `root:x:0:0:root:/:/sbin/nologin\n${name}:x:${id}:${id}:${name}:/tmp:/sbin/nologin\n`,
  );
  writeFileSync(join(etc, "group"), `root:x:0:\n${name}:x:${id}:\n`);
  writeFileSync(join(etc, "nsswitch.conf"), "hosts: files dns\n");
  mkdirSync(join(folder, "tmp"));
  chmodSync(join(folder, "tmp"), 0o1777);
}

function addProgram(
  folder: string,
  program: string,
  name = basename(program),
): void {
  const target = join(folder, "usr/local/bin");
  mkdirSync(target, { recursive: true });
  copyFileSync(program, join(target, name));
  chmodSync(join(target, name), 0o755);
}

async function makeNats({ folder }: LayerContext): Promise<void> {
  await unpackDebian(["nats-server"], folder);
  for (const path of ["etc", "lib", "usr/share/man", "usr/lib"]) {
    rmSync(join(folder, path), { recursive: true, force: true });
  }
}

/** The npm packages of package.json that run in production, in the lock file's versions. */
async function makeModules(
  { root, folder }: LayerContext,
  without: readonly string[],
): Promise<void> {
  const app = join(folder, appFolder);
  mkdirSync(app, { recursive: true });
  const manifest = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  ) as { dependencies: Record<string, string> };
  const dependencies = Object.fromEntries(
    Object.entries(manifest.dependencies)
      .filter(([name]) => !without.includes(name)),
  );
  const write = (name: string, value: unknown) =>
    writeFileSync(join(app, name), `${JSON.stringify(value, undefined, 2)}\n`);
  write("package.json", {
    name: "quetzal",
    private: true,
    type: "module",
    dependencies,
  });
  write("deno.json", { nodeModulesDir: "auto" });
  copyFileSync(join(root, "deno.lock"), join(app, "deno.lock"));
  const run = await runProgram(process.execPath, ["install", "--prod"], {
    cwd: app,
  });
  if (run.exitCode !== 0) {
    throw new UserError(
      `Cannot install the npm packages of the image: deno install ended with ${run.exitCode}`,
      { hints: run.tail.map((line) => `| ${line}`) },
    );
  }
  // From here on packages are found in node_modules and nowhere else.
  write("deno.json", { nodeModulesDir: "manual" });
  rmSync(join(app, "deno.lock"));
  removeFiles(join(app, "node_modules"), /\.(d\.[cm]?ts|map|md|markdown)$/);
}

function removeFiles(folder: string, pattern: RegExp): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) removeFiles(path, pattern);
    else if (entry.isFile() && pattern.test(entry.name)) rmSync(path);
  }
}

/** Folders of the checkout whose sources run in production. */
const sourceFolders = [
  "services",
  "lib",
  "proto/gen",
  "kernels/addon",
  "infra/seed",
];

const notInProduction = /(\.test\.ts|\.bench\.ts|\.md|\.cpp|\.h)$/;
const foldersNotInProduction = ["testing", "test", "dist"];

async function makeApp(
  { root, folder, sourcesOnly = false }: LayerContext,
): Promise<void> {
  const app = join(folder, appFolder);
  for (const name of sourceFolders) {
    cpSync(join(root, name), join(app, name), {
      recursive: true,
      filter: (source) =>
        !notInProduction.test(source) &&
        !foldersNotInProduction.includes(basename(source)),
    });
  }
  copyFileSync(join(root, "LICENSE"), join(app, "LICENSE"));
  if (sourcesOnly) return;
  const addon = join(app, "build/quetzal.node");
  mkdirSync(dirname(addon), { recursive: true });
  copyFileSync(join(root, "build/quetzal.node"), addon);
  const { buildWeb } = await import("../../services/dashboard/web/build.ts");
  await buildWeb({ outFolder: join(app, "services/dashboard/web/dist") });
}

/** What `deno task kernels --cuda` leaves beside the addon. */
function makeCuda({ root, folder }: LayerContext): void {
  const build = join(root, "build");
  const kernels = existsSync(build)
    ? readdirSync(build).filter((name) => /\.(fatbin|cubin|ptx)$/.test(name))
    : [];
  if (kernels.length === 0) {
    throw new UserError(
      "Cannot build the image mesh-cuda: needs CUDA kernels under build/, found none",
      { hints: ["They need nvcc: deno task kernels --cuda"] },
    );
  }
  const target = join(folder, appFolder, "build");
  mkdirSync(target, { recursive: true });
  for (const name of kernels) {
    copyFileSync(join(build, name), join(target, name));
  }
}

function makeDemoModels({ root, folder }: LayerContext): void {
  const target = join(folder, appFolder, "models");
  mkdirSync(target, { recursive: true });
  for (const name of ["quetzal-demo-q8_0.gguf", "quetzal-draft-q8_0.gguf"]) {
    copyFileSync(join(root, "models", name), join(target, name));
  }
}
