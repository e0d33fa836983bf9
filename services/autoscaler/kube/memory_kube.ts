/** An API server in memory: as much of one as tests of the controller need. */
import type { KubeClient, KubeRequest } from "./kube_client.ts";
import { KubeError } from "./kube_error.ts";
import type { KubeObject } from "./objects.ts";

type Json = Record<string, unknown>;
type Stored = KubeObject & { readonly status?: Json; readonly spec?: Json };

interface Change {
  readonly collection: string;
  readonly version: number;
  readonly line: string;
}

/**
 * Lists, watches, creates, patches and deletes; finalizers and optimistic locking
 * as the real one has them. Applying is merging: nobody else owns fields here.
 */
export class MemoryKube implements KubeClient {
  /** Thrown instead of an answer, for those requests that it answers for. */
  refuse: (request: KubeRequest) => KubeError | undefined = () => undefined;
  readonly #objects = new Map<string, Stored>();
  readonly #changes: Change[] = [];
  readonly #watchers = new Set<() => void>();
  #version = 0;

  // deno-lint-ignore require-await -- answers at once
  async call<T>(request: KubeRequest): Promise<T> {
    request.signal?.throwIfAborted();
    const refusal = this.refuse(request);
    if (refusal) throw refusal;
    return structuredClone(this.#answer(request)) as T;
  }

  async *lines({ path, query, signal }: KubeRequest): AsyncIterable<string> {
    let seen = Number(query?.resourceVersion ?? 0);
    while (!signal?.aborted) {
      for (const { collection, version, line } of [...this.#changes]) {
        if (version <= seen) continue;
        seen = version;
        if (collection === path) yield line;
      }
      await this.#changed(signal);
    }
  }

  [Symbol.dispose](): void {}

  /** `get("/apis/apps/v1/namespaces/ns/deployments/x")` */
  get<T extends KubeObject>(path: string): T | undefined {
    return this.#objects.get(path) as T | undefined;
  }

  /** Creates or replaces an object, whoever asks. */
  put(collection: string, object: Stored): void {
    this.#store(`${collection}/${object.metadata.name}`, object);
  }

  /** As `kubectl delete --wait=false`; `atMs` is the server's clock. */
  remove(path: string, atMs = Date.now()): void {
    const known = this.#objects.get(path);
    if (!known) return;
    const deletionTimestamp = new Date(atMs).toISOString();
    this.#store(path, {
      ...known,
      metadata: { ...known.metadata, deletionTimestamp },
    });
  }

  #answer({ method = "GET", path, body }: KubeRequest): unknown {
    if (path === "/apis") return { groups: [] };
    if (method === "POST") {
      const object = body as Stored;
      return this.#store(`${path}/${object.metadata.name}`, object);
    }
    if (method === "PATCH") return this.#patch(path, body as Stored);
    const object = this.#objects.get(path);
    if (object) return object;
    if (!/\/namespaces\/[^/]+\/[^/]+$/.test(path)) throw notFound(path);
    const items = [...this.#objects].filter(([key]) =>
      collectionOf(key) === path
    )
      .map(([, item]) => item);
    return { metadata: { resourceVersion: `${this.#version}` }, items };
  }

  #patch(path: string, patch: Stored): Stored {
    const isStatus = path.endsWith("/status");
    const key = isStatus ? path.slice(0, -"/status".length) : path;
    const known = this.#objects.get(key);
    if (isStatus && !known) throw notFound(key);
    const { resourceVersion } = patch.metadata;
    const isStale = resourceVersion !== undefined &&
      resourceVersion !== known?.metadata.resourceVersion;
    if (isStale) throw new KubeError({ code: 409, message: "stale version" });
    return this.#store(key, merged(known ?? {}, patch) as unknown as Stored);
  }

  #store(path: string, object: Stored): Stored {
    const before = this.#objects.get(path);
    const version = ++this.#version;
    const specChanged =
      JSON.stringify(before?.spec) !== JSON.stringify(object.spec);
    const stored: Stored = {
      ...object,
      metadata: {
        creationTimestamp: new Date(0).toISOString(),
        ...object.metadata,
        uid: before?.metadata.uid ?? `uid-${version}`,
        resourceVersion: `${version}`,
        generation: (before?.metadata.generation ?? 0) + (specChanged ? 1 : 0),
      },
    };
    const { deletionTimestamp, finalizers = [] } = stored.metadata;
    const isGone = deletionTimestamp !== undefined && finalizers.length === 0;
    if (isGone) this.#objects.delete(path);
    else this.#objects.set(path, stored);
    const type = isGone ? "DELETED" : before ? "MODIFIED" : "ADDED";
    this.#changes.push({
      collection: collectionOf(path),
      version,
      line: JSON.stringify({ type, object: stored }),
    });
    for (const wake of this.#watchers) wake();
    return stored;
  }

  #changed(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#watchers.delete(wake);
        resolve();
      };
      this.#watchers.add(wake);
      signal?.addEventListener("abort", wake, { once: true });
    });
  }
}

function collectionOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

function notFound(path: string): KubeError {
  return new KubeError({ code: 404, message: `no ${path}` });
}

function merged(known: object, patch: object): Json {
  const result: Json = { ...known };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else if (typeof value === "object" && !Array.isArray(value)) {
      result[key] = merged((result[key] as object | undefined) ?? {}, value);
    } else result[key] = value;
  }
  return result;
}
