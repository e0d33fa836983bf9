/** Bundles the page into `dist`: hashed names, nothing from outside, compressed twins. */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

const here = fileURLToPath(new URL(".", import.meta.url));

/** Where the service finds the page. */
export const webFolder = join(here, "dist");

export interface BuildWebOptions {
  /** `dist` beside this file unless set. */
  readonly outFolder?: string;
  /** Builds even when the sources are those of the last build. */
  readonly force?: boolean;
}

export interface WebBuild {
  /** What it took, 1 or 2 when there was nothing to do. */
  readonly ms: number;
  /** Of all files a browser fetches. */
  readonly bytes: number;
  /** The same with gzip. */
  readonly compressedBytes: number;
}

/** Builds the page unless `dist` already holds what these sources make. */
export async function buildWeb(
  { outFolder = webFolder, force = false }: BuildWebOptions = {},
): Promise<WebBuild> {
  const startMs = performance.now();
  const hash = hashSources();
  const stamp = join(outFolder, stampName);
  const last = force ? undefined : readStamp(stamp);
  const sizes = last?.hash === hash ? last : await build(outFolder, hash);
  return {
    ms: Math.ceil(performance.now() - startMs),
    bytes: sizes.bytes,
    compressedBytes: sizes.compressedBytes,
  };
}

interface Stamp {
  readonly hash: string;
  readonly bytes: number;
  readonly compressedBytes: number;
}

const stampName = "build.json";

function readStamp(file: string): Stamp | undefined {
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    // A build that was cut off: the next one writes it anew.
    return undefined;
  }
}

/** Sources, the shared types, this builder and the versions of the packages. */
function hashSources(): string {
  const hash = createHash("sha256");
  const sources = readdirSync(join(here, "src"), {
    recursive: true,
    withFileTypes: true,
  })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".test.ts"))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const root = join(here, "../../..");
  const others = [join(here, "build.ts"), join(root, "package.json")];
  for (const file of [...sources, ...others]) {
    hash.update(file.slice(root.length)).update("\0").update(
      readFileSync(file),
    );
  }
  return hash.digest("hex").slice(0, 32);
}

async function build(outFolder: string, hash: string): Promise<Stamp> {
  const files = await bundle();
  // Beside the old page, then in its place: a server never sees half a page.
  const fresh = `${outFolder}.${process.pid}`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(join(fresh, "assets"), { recursive: true });
  let bytes = 0;
  let compressedBytes = 0;
  for (const [name, contents] of files) {
    const zipped = gzipSync(contents, { level: 9 });
    writeFileSync(join(fresh, name), contents);
    writeFileSync(join(fresh, `${name}.gz`), zipped);
    bytes += contents.length;
    compressedBytes += zipped.length;
  }
  const stamp: Stamp = { hash, bytes, compressedBytes };
  writeFileSync(join(fresh, stampName), `${JSON.stringify(stamp, null, 2)}\n`);
  swap(fresh, outFolder);
  return stamp;
}

/** Two builds at once make the same page: whoever comes second leaves the first one's there. */
function swap(fresh: string, outFolder: string): void {
  const old = `${fresh}.old`;
  try {
    renameSync(outFolder, old);
  } catch {
    // There was none, or another build is swapping right now.
  }
  try {
    renameSync(fresh, outFolder);
  } catch (error) {
    if (!existsSync(join(outFolder, stampName))) throw error;
  }
  for (const folder of [fresh, old]) {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** All files of the page by name. */
async function bundle(): Promise<Map<string, Uint8Array>> {
  // Loaded late: a page that is up to date needs no bundler.
  const esbuild = await import("esbuild");
  const { outputFiles } = await esbuild.build({
    absWorkingDir: here,
    entryPoints: ["src/main.tsx", "src/boot.ts", "src/main.css"],
    outdir: "assets",
    entryNames: "[name]-[hash]",
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: ["chrome123", "firefox121", "safari17.5"],
    supported: { "color-functions": true },
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
  });
  await esbuild.stop();
  let html = readFileSync(join(here, "src/index.html"), "utf8");
  const files = new Map<string, Uint8Array>();
  for (const { path, contents } of outputFiles) {
    const name = basename(path);
    const plain = name.replace(/-[A-Z0-9]+\./, ".");
    html = html.replace(`/assets/${plain}`, `/assets/${name}`);
    files.set(`assets/${name}`, contents);
  }
  files.set("icon.svg", readFileSync(join(here, "src/icon.svg")));
  return files.set("index.html", new TextEncoder().encode(html));
}

if (
  process.argv[1] !== undefined &&
  import.meta.url === pathToFileURL(process.argv[1]).href
) {
  const force = process.argv.includes("--force");
  const { ms, bytes, compressedBytes } = await buildWeb({ force });
  console.log(
    `Built the page in ${ms} ms: ${bytes} bytes, ${compressedBytes} compressed`,
  );
}
