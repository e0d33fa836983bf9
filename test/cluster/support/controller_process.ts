import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { waitFor } from "../../../lib/testing/mod.ts";
import { namespace, root } from "./test_cluster.ts";

export interface ControllerOptions {
  readonly kubeconfig: string;
  readonly natsUrl: string;
  readonly name?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface ControllerProcess extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  /** Everything it logged so far. */
  readonly log: string;
  readonly exitCode: number | null;
  /** Values of `/metrics` by name and labels: `quetzal:controller_leading`. */
  metrics(): Promise<ReadonlyMap<string, number>>;
  /** Waits until it leads and knows all objects. */
  leads(): Promise<void>;
  /** Resident memory, bytes. */
  memoryBytes(): number;
  /** Processor time since its start, ms. */
  cpuMs(): number;
  kill(signal: "SIGKILL" | "SIGTERM"): Promise<void>;
}

/** `services/autoscaler/main.ts` as a process of its own, as its image starts it. */
export async function startController(
  { kubeconfig, natsUrl, name = "autoscaler-a", env = {} }: ControllerOptions,
): Promise<ControllerProcess> {
  const child = spawn(process.execPath, [
    "run",
    "-A",
    "--cached-only",
    "services/autoscaler/main.ts",
  ], {
    cwd: root,
    stdio: ["ignore", "ignore", "pipe"],
    env: {
      ...process.env,
      // As in its image: memory matters more than the last bit of speed.
      DENO_V8_FLAGS: "--optimize-for-size,--max-semi-space-size=2",
      QUETZAL_AUTOSCALER_NAMESPACE: namespace,
      QUETZAL_AUTOSCALER_KUBECONFIG: kubeconfig,
      QUETZAL_AUTOSCALER_PORT: "0",
      QUETZAL_AUTOSCALER_TICK: "200",
      QUETZAL_NATS_URL: natsUrl,
      QUETZAL_POD_NAME: name,
      ...env,
    },
  });
  let log = "";
  let exitCode: number | null = null;
  child.once("exit", (code) => exitCode = code);
  child.stderr.setEncoding("utf8").on("data", (text) => log += text);
  const port = await waitFor(
    () => {
      if (child.exitCode !== null) {
        throw new Error(`The autoscaler ended with ${child.exitCode}: ${log}`);
      }
      return Number(/"port":(\d+).*listens/.exec(log)?.[1]) || undefined;
    },
    { what: "the autoscaler's port", timeoutMs: 120_000 },
  );
  return {
    name,
    pid: child.pid!,
    get log() {
      return log;
    },
    get exitCode() {
      return exitCode;
    },
    async metrics() {
      const answer = await fetch(`http://127.0.0.1:${port}/metrics`);
      return parseMetrics(await answer.text());
    },
    async leads() {
      await waitFor(() => log.includes("Knows all objects"), {
        what: `${name} to lead`,
        timeoutMs: 60_000,
      });
    },
    memoryBytes() {
      const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) * 1_024;
    },
    cpuMs() {
      const stat = readFileSync(`/proc/${child.pid}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      // Clock ticks of 10 ms, user and system.
      return (Number(fields[11]) + Number(fields[12])) * 10;
    },
    kill: (signal) => end(child, signal),
    [Symbol.asyncDispose]: () => end(child, "SIGKILL"),
  };
}

async function end(
  child: ChildProcess,
  signal: "SIGKILL" | "SIGTERM",
): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  // Not `child.kill()`: with it Deno reports the signal where a process ended by itself.
  process.kill(child.pid!, signal);
  await ended;
}

function parseMetrics(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split("\n")) {
    if (line.startsWith("#") || line === "") continue;
    const at = line.lastIndexOf(" ");
    values.set(line.slice(0, at), Number(line.slice(at + 1)));
  }
  return values;
}
