/** `deno task images`: container images without Docker and without a registry. */
import { join } from "node:path";
import { root, setUp } from "../setup/mod.ts";
import { createPhases, endWithError } from "../terminal/mod.ts";
import { buildImages, type BuiltImage, makeFolder } from "./build.ts";
import { type ImagesCommand, imagesHelp, parseImagesFlags } from "./flags.ts";
import { images } from "./specs.ts";

async function run(command: ImagesCommand): Promise<void> {
  const phases = createPhases();
  await setUp("images", phases);
  const { names, outFolder, rootFolders, json, tag } = command;
  if (rootFolders) {
    const layers = command.layers ??
      new Set(names.flatMap((name) => [...images[name].layers]));
    for (const layer of layers) {
      const folder = join(outFolder, layer);
      await phases.run(
        `layer ${layer}`,
        () => makeFolder(layer, { root, folder }),
      );
    }
    if (json) {
      print({ folders: [...layers].map((name) => join(outFolder, name)) });
    }
    return;
  }
  let built: BuiltImage[] = [];
  await phases.run("images", async (detail) => {
    built = await buildImages({ root, names, outFolder, tag, detail });
  });
  process.stderr.write(sizes(built));
  if (json) print({ images: built });
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function sizes(built: readonly BuiltImage[]): string {
  return built.map(({ reference, bytes, layers, file }) =>
    `${reference}  ${mib(bytes)}  ${file}\n` +
    layers.map(({ name, bytes }) => `  ${name.padEnd(20)} ${mib(bytes)}\n`)
      .join("")
  ).join("");
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1).padStart(6)} MiB`;
}

try {
  const command = parseImagesFlags(process.argv.slice(2), {
    env: process.env,
    root,
  });
  if (command === "help") process.stdout.write(imagesHelp);
  else await run(command);
} catch (error) {
  endWithError(error);
}
process.exit();
