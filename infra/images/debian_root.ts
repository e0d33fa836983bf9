/** Root folders from Debian packages, without a package manager, a shell or documents in them. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runProgram } from "../process/mod.ts";
import { UserError } from "../terminal/mod.ts";

/** Unpacks the packages, as this machine's apt finds them, into `root`; runs none of their scripts. */
export async function unpackDebian(
  packages: readonly string[],
  root: string,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "quetzal-debian-"));
  try {
    await download(packages, folder);
    for (const file of readdirSync(folder).sort()) {
      if (file.endsWith(".deb")) await unpack(join(folder, file), root);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function download(
  packages: readonly string[],
  folder: string,
): Promise<void> {
  const apt = (...args: string[]) =>
    runProgram("apt-get", ["-q", ...args], { cwd: folder });
  let result = await apt("download", ...packages);
  if (result.exitCode !== 0 && process.getuid?.() === 0) {
    // A fresh machine has no lists yet, an old one outdated ones.
    await apt("update");
    result = await apt("download", ...packages);
  }
  if (result.exitCode === 0) return;
  throw new UserError(
    `Cannot download ${
      packages.join(", ")
    }: apt-get ended with ${result.exitCode}`,
    {
      hints: [
        ...result.tail.map((line) => `| ${line}`),
        "Is Debian's mirror reachable from here? (apt-get update)",
      ],
    },
  );
}

async function unpack(file: string, root: string): Promise<void> {
  mkdirSync(root, { recursive: true });
  const output = async (...args: string[]) => {
    const lines: string[] = [];
    const { exitCode, tail } = await runProgram("dpkg-deb", args, {
      onLine: (line) => lines.push(line),
    });
    if (exitCode === 0) return lines;
    throw new Error(`Cannot unpack ${file}: ${tail.join("; ")}`);
  };
  await output("--extract", file, root);
  // Scanners for known faults read here what an image without dpkg holds.
  const control = await output("--field", file);
  const name = control[0].replace("Package: ", "");
  const status = join(root, "var/lib/dpkg/status.d");
  mkdirSync(status, { recursive: true });
  writeFileSync(join(status, name), `${control.join("\n")}\n`);
}

/** Programs, character sets, translations and manuals; licenses stay. */
const unneeded = [
  "sbin",
  "bin",
  "usr/bin",
  "usr/sbin",
  "etc/ca-certificates",
  "etc/ld.so.conf.d",
  "usr/lib/x86_64-linux-gnu/gconv",
  "usr/lib/x86_64-linux-gnu/audit",
  "usr/share/lintian",
  "usr/share/man",
  "usr/share/locale",
  "usr/share/gdb",
  "usr/share/gcc",
  "usr/share/gcc-12",
];

export function pruneBase(root: string): void {
  for (const path of unneeded) {
    rmSync(join(root, path), { recursive: true, force: true });
  }
  const documents = join(root, "usr/share/doc");
  if (!existsSync(documents)) return;
  for (const entry of readdirSync(documents, { withFileTypes: true })) {
    // Packages of one source share a folder through links.
    if (!entry.isDirectory()) continue;
    const folder = join(documents, entry.name);
    for (const file of readdirSync(folder)) {
      if (file !== "copyright") rmSync(join(folder, file), { recursive: true });
    }
  }
}

/** What `update-ca-certificates` would write. */
export function writeCertificateBundle(root: string): void {
  const folder = join(root, "usr/share/ca-certificates/mozilla");
  const bundle = readdirSync(folder).sort()
    .filter((name) => name.endsWith(".crt"))
    .map((name) => readFileSync(join(folder, name), "utf8").trimEnd())
    .join("\n");
  const target = join(root, "etc/ssl/certs");
  mkdirSync(target, { recursive: true });
  writeFileSync(join(target, "ca-certificates.crt"), `${bundle}\n`);
  rmSync(folder, { recursive: true });
}
