import { setTimeout as delay } from "node:timers/promises";
import {
  AuthorizationError,
  connect,
  type ConnectionOptions,
  type NatsConnection,
} from "@nats-io/transport-node";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { guardSockets } from "./nats_socket_guard.ts";
import type { Warnings } from "./warnings.ts";

export interface ConnectOptions {
  /** `nats://[user:password@]host:port`, several separated by commas; `tls://` encrypts. */
  readonly url: string;
  /** How NATS shows this connection: the service's name. */
  readonly name: string;
  /** Gives up waiting for the first connection. */
  readonly signal?: AbortSignal;
}

/** Connects, trying again until NATS is there; a refused login is final. */
export async function connectNats(
  options: ConnectOptions,
  warnings: Warnings,
): Promise<NatsConnection> {
  const natsOptions = toNatsOptions(options);
  guardSockets();
  return await untilReady(options, warnings, () => connect(natsOptions));
}

/** Runs `attempt` until it succeeds, waiting 100 ms, then twice that, up to 2 s. */
export async function untilReady<T>(
  { url, signal }: ConnectOptions,
  warnings: Warnings,
  attempt: () => Promise<T>,
): Promise<T> {
  for (let waitMs = 100;; waitMs = Math.min(waitMs * 2, 2_000)) {
    try {
      signal?.throwIfAborted();
      return await attempt();
    } catch (error) {
      if (signal?.aborted) throw gaveUp(url, signal.reason);
      if (error instanceof AuthorizationError) throw refused(url, error);
      warnings.add(
        "connection",
        `Still waiting for NATS at ${hide(url)}`,
        error,
      );
    }
    // An abort ends the pause; the top of the loop reports it.
    await delay(waitMs, undefined, { signal }).catch(() => {});
  }
}

function toNatsOptions({ url, name }: ConnectOptions): ConnectionOptions {
  const urls = url.split(",").map((entry) => parse(entry.trim()));
  const [first] = urls;
  return {
    name,
    servers: urls.map((entry) => entry.host),
    ...(first.password
      ? {
        user: decodeURIComponent(first.username),
        pass: decodeURIComponent(first.password),
      }
      : first.username
      ? { token: decodeURIComponent(first.username) }
      : {}),
    ...(first.protocol === "tls:" ? { tls: {} } : {}),
    timeout: 3_000,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 250,
    // Spreads a mesh that lost its server; not so far that workers seem gone.
    reconnectJitter: 250,
    // A silent network failure shows after 10 to 15 s.
    pingInterval: 5_000,
    maxPingOut: 2,
    ignoreAuthErrorAbort: true,
  };
}

function parse(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.host && ["nats:", "tls:"].includes(parsed.protocol)) {
    return parsed;
  }
  throw new MeshError(
    Code.invalidArgument,
    `Cannot connect to NATS: needs nats://host:port, is "${hide(url)}"`,
  );
}

/** The URL without its password. */
function hide(url: string): string {
  return url.replaceAll(/\/\/[^@/,]*@/g, "//***@");
}

function gaveUp(url: string, cause: unknown): MeshError {
  return new MeshError(
    Code.unavailable,
    `Cannot connect to NATS at ${hide(url)}: gave up waiting`,
    { cause },
  );
}

function refused(url: string, cause: unknown): MeshError {
  return new MeshError(
    Code.permissionDenied,
    `Cannot connect to NATS at ${hide(url)}: it refuses the login`,
    { cause },
  );
}
