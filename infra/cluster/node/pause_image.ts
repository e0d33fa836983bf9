import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { packLayer, writeArchive } from "../../images/mod.ts";
import { pauseImage } from "./containerd.ts";
import { run } from "./shell.ts";

/** Compiles `pause.c` and packs it: the image under every pod. */
export async function buildPauseImage(folder: string): Promise<string> {
  const work = join(folder, "pause");
  const rootFolder = join(work, "root");
  mkdirSync(rootFolder, { recursive: true });
  const source = fileURLToPath(new URL("./pause.c", import.meta.url));
  await run(
    [
      "g++",
      "-x",
      "c",
      "-static",
      "-O2",
      "-o",
      join(rootFolder, "pause"),
      source,
    ],
    "compile the pause program",
  );
  const layer = await packLayer(rootFolder, join(work, "layer.tar"));
  const file = join(folder, "pause.tar");
  await writeArchive({
    reference: pauseImage,
    layers: [layer],
    config: {
      entrypoint: ["/pause"],
      args: [],
      env: {},
      workingDir: "/",
      user: "65532:65532",
      labels: {},
    },
    file,
    work: join(work, "archive"),
  });
  rmSync(work, { recursive: true });
  return file;
}
