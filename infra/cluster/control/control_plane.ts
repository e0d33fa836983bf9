import { readFileSync } from "node:fs";
import { get } from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import { UserError } from "../../terminal/mod.ts";
import {
  type DaemonRecord,
  type DaemonSpec,
  isAlive,
  type Lifetime,
  logTail,
  startDaemon,
  stopDaemon,
} from "../daemon.ts";
import type { ControlPlaneSpecs } from "./specs.ts";

export type ControlPlanePart = keyof ControlPlaneSpecs;

/** etcd, API server, controller manager and scheduler, each of which tests may stop and start. */
export interface ControlPlane {
  /** Those that run, in the order in which they were started. */
  readonly daemons: readonly DaemonRecord[];
  start(part: ControlPlanePart): Promise<void>;
  /** As a crash with "SIGKILL". */
  stop(
    part: ControlPlanePart,
    options?: { signal?: "SIGTERM" | "SIGKILL" },
  ): Promise<void>;
  /** For good and at once: what they hold is thrown away. */
  stopAll(): Promise<void>;
}

export interface ControlPlaneOptions {
  readonly specs: ControlPlaneSpecs;
  /** `https://127.0.0.1:6443` */
  readonly url: string;
  readonly caCertificate: string;
  readonly lifetime: Lifetime;
}

const parts = [
  "etcd",
  "apiServer",
  "controllerManager",
  "scheduler",
] as const;

/** Starts all parts and resolves when the API server is ready: 3 to 6 s. */
export async function startControlPlane(
  { specs, url, caCertificate, lifetime }: ControlPlaneOptions,
): Promise<ControlPlane> {
  const running = new Map<ControlPlanePart, DaemonRecord>();

  async function start(part: ControlPlanePart): Promise<void> {
    const spec: DaemonSpec | undefined = specs[part];
    if (spec === undefined) return;
    const daemon = startDaemon(spec, lifetime);
    running.set(part, daemon);
    if (part === "apiServer") await apiServerReady(daemon, url, caCertificate);
  }

  async function stop(
    part: ControlPlanePart,
    options?: { signal?: "SIGTERM" | "SIGKILL" },
  ): Promise<void> {
    const daemon = running.get(part);
    running.delete(part);
    if (daemon) await stopDaemon(daemon, options);
  }

  async function stopAll(): Promise<void> {
    for (const part of [...parts].reverse()) {
      await stop(part, { signal: "SIGKILL" });
    }
  }

  try {
    for (const part of parts) await start(part);
  } catch (error) {
    await stopAll();
    throw error;
  }
  return {
    get daemons() {
      return parts.flatMap((part) => running.get(part) ?? []);
    },
    start,
    stop,
    stopAll,
  };
}

const readyWithinMs = 60_000;

async function apiServerReady(
  daemon: DaemonRecord,
  url: string,
  caCertificate: string,
): Promise<void> {
  const ca = readFileSync(caCertificate);
  const deadlineMs = performance.now() + readyWithinMs;
  while (!await answersReady(url, ca)) {
    const late = performance.now() > deadlineMs;
    if (isAlive(daemon) && !late) {
      await delay(50);
      continue;
    }
    throw new UserError(
      `Cannot start the API server at ${url}: ` +
        (late ? `not ready after ${readyWithinMs / 1_000} s` : "it ended"),
      { hints: logTail(daemon).map((line) => `| ${line}`) },
    );
  }
}

function answersReady(url: string, ca: Uint8Array): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(
      `${url}/readyz`,
      { ca: Buffer.from(ca), agent: false, timeout: 2_000 },
      (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      },
    );
    request.once("timeout", () => request.destroy());
    request.once("error", () => resolve(false));
  });
}
