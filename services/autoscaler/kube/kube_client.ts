import type { IncomingMessage, RequestOptions } from "node:http";
import { request as httpRequest } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import type { KubeConfig } from "@kubernetes/client-node";
import { fromStatus, KubeError } from "./kube_error.ts";

export interface KubeRequest {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** `application/json` unless set. */
  readonly contentType?: PatchType;
  readonly signal?: AbortSignal;
  /** 15,000 unless set. */
  readonly timeoutMs?: number;
}

export type PatchType =
  | "application/merge-patch+json"
  | "application/apply-patch+yaml"
  | "application/json";

/** The API server, as far as the controller uses it. */
export interface KubeClient extends Disposable {
  /** Answers with the parsed body; refusals and outages are `KubeError`s. */
  call<T>(request: KubeRequest): Promise<T>;
  /** One JSON line after another, until the server or `signal` ends the stream. */
  lines(request: KubeRequest): AsyncIterable<string>;
}

export interface KubeClientOptions {
  /** Address and credentials; a token file is read again once a minute. */
  readonly config: KubeConfig;
  readonly userAgent: string;
  /** Requests under way at once; 16 unless set. Watches have their own. */
  readonly socketsMax?: number;
}

/** An answer larger than this is refused: 64 MiB hold some 20,000 pods. */
const answerBytesMax = 64 << 20;
/** Far below the minute in which a new token file has to be noticed. */
const credentialsMs = 10_000;
/** A half-open connection shows within a minute. */
const tcpKeepAliveMs = 15_000;

/**
 * A client of the API server over HTTP/1.1.
 *
 * `@kubernetes/client-node` reads the kubeconfig or the service account, and
 * answers how to authenticate; requests are our own, because its watches leave
 * out lines that they cannot parse, and lost events look like quiet.
 */
export async function createKubeClient(
  { config, userAgent, socketsMax = 16 }: KubeClientOptions,
): Promise<KubeClient> {
  const server = new URL(config.getCurrentCluster()?.server ?? "");
  const agents = await createAgents(config, socketsMax);
  const send = server.protocol === "https:" ? httpsRequest : httpRequest;
  const credentials = createCredentials(config);

  async function open(
    { method = "GET", path, query, body, contentType, signal }: KubeRequest,
    agent: RequestOptions["agent"],
  ): Promise<IncomingMessage> {
    const options = await credentials();
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const search = query ? `?${new URLSearchParams(query)}` : "";
    const base = server.pathname.replace(/\/$/, "");
    return await new Promise((resolve, reject) => {
      const request = send({
        ...options,
        agent: agent ?? options.agent,
        host: server.hostname.replace(/^\[|\]$/g, ""),
        port: server.port || (server.protocol === "https:" ? 443 : 80),
        method,
        path: `${base}${path}${search}`,
        signal,
        headers: {
          ...options.headers,
          accept: "application/json",
          "user-agent": userAgent,
          ...payload !== undefined && {
            "content-type": contentType ?? "application/json",
            "content-length": Buffer.byteLength(payload),
          },
        },
      }, resolve);
      request.on(
        "socket",
        (socket) => socket.setKeepAlive(true, tcpKeepAliveMs),
      );
      request.on("error", reject);
      request.end(payload);
    });
  }

  return {
    async call<T>(request: KubeRequest): Promise<T> {
      const action = `${request.method ?? "GET"} ${request.path}`;
      const signal = bounded(request.signal, request.timeoutMs ?? 15_000);
      try {
        const response = await open({ ...request, signal }, agents?.calls);
        const text = await readAll(response, action);
        const code = response.statusCode ?? 0;
        if (code >= 200 && code < 300) return JSON.parse(text) as T;
        throw fromStatus(action, code, text, headerOf(response, "retry-after"));
      } catch (reason) {
        throw outage(reason, action, request.signal);
      }
    },
    async *lines(request) {
      const action = `watch ${request.path}`;
      try {
        const response = await open(request, agents?.watches);
        const code = response.statusCode ?? 0;
        if (code !== 200) {
          const text = await readAll(response, action);
          const retryAfter = headerOf(response, "retry-after");
          throw fromStatus(action, code, text, retryAfter);
        }
        yield* splitLines(response);
      } catch (reason) {
        throw outage(reason, action, request.signal);
      }
    },
    [Symbol.dispose]() {
      agents?.calls.destroy();
      agents?.watches.destroy();
    },
  };
}

/**
 * The same client for as long as `signal` has not aborted. Writes are refused
 * while `mayWrite` says no: a process that was stopped for a while wakes up before
 * its timers can tell it that it leads no longer.
 */
export function boundTo(
  client: KubeClient,
  signal: AbortSignal,
  mayWrite: () => boolean = () => true,
): KubeClient {
  const bound = (request: KubeRequest): KubeRequest => ({
    ...request,
    signal: request.signal ? AbortSignal.any([signal, request.signal]) : signal,
  });
  return {
    async call<T>(request: KubeRequest): Promise<T> {
      const { method = "GET", path } = request;
      if (method !== "GET" && !mayWrite()) {
        throw new KubeError({
          code: 0,
          message: `Cannot ${method} ${path}: another one may lead by now`,
        });
      }
      return await client.call<T>(bound(request));
    },
    lines: (request) => client.lines(bound(request)),
    // It belongs to whoever made it.
    [Symbol.dispose]() {},
  };
}

/** Reading files and making an agent for each request would be most of an idle leader's work. */
function createCredentials(config: KubeConfig): () => Promise<RequestOptions> {
  let known: { readonly options: RequestOptions; readonly untilMs: number };
  return async () => {
    if (performance.now() < known?.untilMs) return known.options;
    const options: RequestOptions = { headers: {} };
    await config.applyToHTTPSOptions(options);
    known = { options, untilMs: performance.now() + credentialsMs };
    return options;
  };
}

interface Agents {
  readonly calls: Agent;
  readonly watches: Agent;
}

/** Kept connections: client-node's own agent opens one per request. None behind a proxy. */
async function createAgents(
  config: KubeConfig,
  socketsMax: number,
): Promise<Agents | undefined> {
  const cluster = config.getCurrentCluster();
  if (cluster?.proxyUrl || cluster?.server.startsWith("http:")) {
    return undefined;
  }
  const found: RequestOptions & Record<string, unknown> = { headers: {} };
  await config.applyToHTTPSOptions(found);
  const { ca, cert, key, pfx, passphrase, servername, rejectUnauthorized } =
    found;
  const tls = Object.fromEntries(
    Object.entries({
      ca,
      cert,
      key,
      pfx,
      passphrase,
      servername,
      rejectUnauthorized,
    }).filter(([, value]) => value !== undefined),
  );
  return {
    calls: new Agent({ ...tls, keepAlive: true, maxSockets: socketsMax }),
    watches: new Agent({ ...tls, keepAlive: false }),
  };
}

async function readAll(
  response: IncomingMessage,
  action: string,
): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > answerBytesMax) {
      response.destroy();
      throw new KubeError({
        code: 0,
        message: `Cannot ${action}: the answer exceeds ${answerBytesMax} bytes`,
      });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function* splitLines(response: IncomingMessage): AsyncIterable<string> {
  let rest = "";
  response.setEncoding("utf8");
  for await (const chunk of response as AsyncIterable<string>) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop()!;
    if (rest.length > answerBytesMax) {
      throw new Error(`a line exceeds ${answerBytesMax} characters`);
    }
    yield* lines.filter((line) => line !== "");
  }
}

function bounded(signal: AbortSignal | undefined, ms: number): AbortSignal {
  const timeout = AbortSignal.timeout(ms);
  return signal ? AbortSignal.any([signal, timeout]) : timeout;
}

function headerOf(response: IncomingMessage, name: string): string | undefined {
  const value = response.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** An abort stays what it is; whatever else went wrong means that nobody answered. */
function outage(
  reason: unknown,
  action: string,
  signal: AbortSignal | undefined,
): unknown {
  if (signal?.aborted) return signal.reason;
  if (reason instanceof KubeError) return reason;
  const detail = reason instanceof Error ? reason.message : String(reason);
  return new KubeError({
    code: 0,
    message: `Cannot ${action}: ${detail}`,
    cause: reason,
  });
}
