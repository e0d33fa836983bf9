import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Debian puts servers here, and a plain user's PATH does not name them. */
const serverFolders = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** `PATH` with the folders of servers behind it. */
export function systemPath(path: string = process.env.PATH ?? ""): string {
  const folders = path.split(delimiter).filter((folder) => folder !== "");
  return [...new Set([...folders, ...serverFolders])].join(delimiter);
}

/** The file that runs as `name`; `undefined` when there is none. */
export function findProgram(
  name: string,
  path: string = systemPath(),
): string | undefined {
  return path.split(delimiter)
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    // Absent, or not for us: both mean "look further".
    return false;
  }
}
