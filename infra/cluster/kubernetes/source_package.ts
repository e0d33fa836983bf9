import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { runProgram } from "../../process/mod.ts";
import { UserError } from "../../terminal/mod.ts";

/** The suite whose package `kubernetes` holds the whole tree with its vendored dependencies. */
const suite = "bookworm";
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
const fallbackMirror = "http://deb.debian.org/debian";

/**
 * Downloads Debian's source package `kubernetes` into `folder` and checks its
 * signature, as apt does.
 *
 * apt gets a source list, an index and a cache of its own under `folder`: this
 * machine's configuration and lists stay as they are, and root is not needed.
 */
export async function fetchSource(
  folder: string,
  detail: (text: string) => void,
): Promise<void> {
  const apt = join(folder, "apt");
  for (const name of ["parts", "lists/partial", "cache/archives/partial"]) {
    mkdirSync(join(apt, name), { recursive: true });
  }
  writeFileSync(join(apt, "parts/source.sources"), sourceList(debianMirror()));
  const run = async (...args: string[]) => {
    const result = await runProgram("apt-get", [...options(apt), ...args], {
      cwd: folder,
      env: { LC_ALL: "C" },
      onLine: detail,
    });
    if (result.exitCode === 0) return;
    throw new UserError(
      `Cannot fetch the source of Kubernetes: apt-get ${
        args[0]
      } ended with ${result.exitCode}`,
      {
        hints: [
          ...result.tail.map((line) => `| ${line}`),
          "Is Debian's mirror reachable from here? (apt-get update)",
        ],
      },
    );
  };
  await run("update", "-q");
  await run("source", "-q", "--download-only", "kubernetes");
  rmSync(apt, { recursive: true });
}

function options(apt: string): string[] {
  return [
    "Dir::Etc::SourceList=/dev/null",
    `Dir::Etc::SourceParts=${join(apt, "parts")}`,
    `Dir::State::Lists=${join(apt, "lists")}`,
    `Dir::Cache=${join(apt, "cache")}`,
    // The folder is ours alone, so the user `_apt` could not write there.
    "APT::Sandbox::User=",
  ].flatMap((option) => ["-o", option]);
}

function sourceList(mirror: string): string {
  return `Types: deb-src
URIs: ${mirror}
Suites: ${suite}
Components: main
Signed-By: ${keyring}
`;
}

/** The mirror this machine uses for Debian's main archive. */
function debianMirror(etc = "/etc/apt"): string {
  const parts = join(etc, "sources.list.d");
  const files = [
    join(etc, "sources.list"),
    ...(existsSync(parts)
      ? readdirSync(parts).map((name) => join(parts, name))
      : []),
  ].filter((file) => /\.(list|sources)$/.test(file) && existsSync(file));
  const texts = files.map((file) => readFileSync(file, "utf8"));
  return mirrorIn(texts) ?? fallbackMirror;
}

/** The first archive that ends in `/debian`, in either of apt's two formats. */
export function mirrorIn(sourceLists: readonly string[]): string | undefined {
  for (const text of sourceLists) {
    const found = /^(?!\s*#).*?\b((?:https?|file):\/\/\S+?\/debian)\/?(?:\s|$)/m
      .exec(text);
    if (found) return found[1];
  }
  return undefined;
}
