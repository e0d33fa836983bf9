import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";

/** A TCP port of 127.0.0.1 nobody listens on now. */
export async function freePort(): Promise<number> {
  return await listenOnce(0, "127.0.0.1") ?? 0;
}

/** True when nobody listens on it, on any address of this machine. */
export async function isFree(port: number): Promise<boolean> {
  return await listenOnce(port, "127.0.0.1") !== undefined &&
    await listenOnce(port, "0.0.0.0") !== undefined;
}

/** The port it could listen on for a moment; `undefined` when it is taken. */
function listenOnce(port: number, host: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(undefined);
      else reject(error);
    });
    server.listen(port, host, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** `nginx (pid 12)`: who listens on a port, as far as we may see it. */
export function ownerOf(port: number): string | undefined {
  const inode = ["/proc/net/tcp", "/proc/net/tcp6"]
    .flatMap((table) => lines(table))
    .map((line) => line.trim().split(/\s+/))
    .find(([, local, , state]) => state === "0A" && portIn(local) === port)
    ?.[9];
  if (!inode) return undefined;
  const pid = names("/proc").find((name) =>
    /^\d+$/.test(name) &&
    names(`/proc/${name}/fd`).some((fd) =>
      target(`/proc/${name}/fd/${fd}`) === `socket:[${inode}]`
    )
  );
  if (!pid) return undefined;
  return `${lines(`/proc/${pid}/comm`)[0] ?? "a process"} (pid ${pid})`;
}

/** The kernel writes addresses as hex: `0100007F:1F90` is 127.0.0.1:8080. */
function portIn(address: string): number {
  return parseInt(address.split(":")[1], 16);
}

// Processes come and go, and some are not ours to look at: both read as empty.

function lines(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n");
  } catch {
    return [];
  }
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function target(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined;
  }
}
