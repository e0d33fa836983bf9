import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { freePort } from "./free_port.ts";
import { tempDir } from "./temp_dir.ts";
import { waitFor } from "./wait_for.ts";

export interface StartNatsOptions {
  /** Program to start; `nats-server` of the PATH unless set. */
  readonly command?: string;
  /** More arguments, such as `["--user", "u", "--pass", "p"]`. */
  readonly args?: readonly string[];
  /** With JetStream unless set to false. */
  readonly jetStream?: boolean;
}

/** A `nats-server` on a port and store folder of its own. */
export interface NatsServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Ends the process at once, as a crash would; does nothing when it is down. */
  kill(): Promise<void>;
  /** Kills it if it runs and starts it on the same port, with or without its data. */
  restart(options?: { readonly loseData?: boolean }): Promise<void>;
  /** Everything it wrote to stderr, for failing tests. */
  readonly log: string;
}

/** `await using nats = await startNats()`. */
export async function startNats(
  { command = "nats-server", args = [], jetStream = true }: StartNatsOptions =
    {},
): Promise<NatsServer> {
  const port = await freePort();
  const dir = await tempDir("nats");
  const store = join(dir.path, "store");
  const storeArgs = jetStream ? ["-js", "-sd", store] : [];
  let child: ChildProcess | undefined;
  let log = "";

  async function start(): Promise<void> {
    const started = spawn(
      command,
      ["-a", "127.0.0.1", "-p", `${port}`, ...storeArgs, ...args],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    child = started;
    started.stderr.on("data", (chunk) => log += chunk);
    let failure: Error | undefined;
    started.once("error", (error) => failure = error);
    await waitFor(async () => {
      if (failure) throw failure;
      if (started.exitCode !== null) {
        throw new Error(`Cannot start ${command}: it ended: ${log}`);
      }
      return await answers(port);
    }, { what: `${command} on port ${port}`, timeoutMs: 20_000 });
  }

  async function kill(): Promise<void> {
    const running = child;
    child = undefined;
    if (!running || running.exitCode !== null || running.signalCode !== null) {
      return;
    }
    const ended = once(running, "exit");
    running.kill("SIGKILL");
    await ended;
  }

  await start();
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    kill,
    async restart({ loseData = false } = {}) {
      await kill();
      if (loseData) await rm(store, { recursive: true, force: true });
      await start();
    },
    get log() {
      return log;
    },
    async [Symbol.asyncDispose]() {
      await kill();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** True once the server greets with its INFO line, which it does when it is ready. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const settle = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("data", (chunk) => settle(`${chunk}`.startsWith("INFO")));
    socket.once("error", () => settle(false));
    socket.once("close", () => settle(false));
  });
}
