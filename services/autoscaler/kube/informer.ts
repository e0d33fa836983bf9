import { setTimeout as delay } from "node:timers/promises";
import { retryWaitMs } from "./backoff.ts";
import type { KubeClient } from "./kube_client.ts";
import { fromStatus, KubeError } from "./kube_error.ts";
import {
  type KubeList,
  type KubeObject,
  pathOf,
  type ResourceType,
} from "./objects.ts";

export interface InformerOptions<T extends KubeObject> {
  readonly client: KubeClient;
  readonly type: ResourceType;
  readonly namespace: string;
  readonly labelSelector?: string;
  /** Keeps of an object what is needed; the whole without managedFields unless set. */
  readonly keep?: (object: T) => T;
  /** Told of every object that is new, changed or gone, and of all after each relist. */
  readonly onChange: (name: string, object: T | undefined) => void;
  readonly onNote?: (note: InformerNote) => void;
  readonly random: () => number;
  /** Objects per page of a list; 500 unless set. */
  readonly pageSize?: number;
  /** A watch is opened anew after this long, half of it by chance; 600,000 unless set. */
  readonly watchMsMax?: number;
}

/** A watch that ends without a word sooner than this is no watch. */
const watchMsMin = 1_000;
/** Objects that are gone, to recognize late answers about them. */
const tombstonesMax = 1_000;

export type InformerNote =
  | { readonly kind: "listed"; readonly count: number }
  | { readonly kind: "expired" }
  | { readonly kind: "malformed"; readonly line: string }
  | { readonly kind: "failed"; readonly reason: unknown };

/**
 * A copy of all objects of one kind, kept current.
 *
 * It lists, then watches from the list's version. A watch that ends is opened
 * again where it ended. Whenever events may have been lost (410 Gone, a line
 * that is no event) everything is listed again and compared: what vanished
 * meanwhile is reported as gone. Nothing but that comparison is trusted to be complete.
 */
export class Informer<T extends KubeObject> {
  readonly #options: InformerOptions<T>;
  readonly #objects = new Map<string, T>();
  /** Uids, oldest first. */
  readonly #tombstones = new Set<string>();
  readonly #synced = Promise.withResolvers<void>();
  #version: string | undefined;
  #failures = 0;

  constructor(options: InformerOptions<T>) {
    this.#options = options;
  }

  /** Resolves once everything was listed. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  get(name: string): T | undefined {
    return this.#objects.get(name);
  }

  list(): T[] {
    return [...this.#objects.values()];
  }

  get size(): number {
    return this.#objects.size;
  }

  /** Takes in what a write answered with, so that nobody acts on older knowledge. */
  absorb(object: T): void {
    const { name, uid } = object.metadata;
    // The answer to a write may come after the news that the object is gone.
    if (uid !== undefined && this.#tombstones.has(uid)) return;
    const known = this.#objects.get(name);
    if (!known || isNewer(object, known)) {
      this.#objects.set(name, this.#keep(object));
    }
  }

  /** Runs until `signal` aborts; outages are waited out. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#version === undefined) await this.#list(signal);
        await this.#watch(signal);
      } catch (reason) {
        if (signal.aborted) return;
        await this.#recover(reason, signal);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { client, pageSize = 500 } = this.#options;
    const found = new Map<string, T>();
    let next: string | undefined;
    let version: string;
    do {
      const page: KubeList<T> = await client.call<KubeList<T>>({
        path: this.#path,
        query: {
          ...this.#selector,
          limit: `${pageSize}`,
          ...next && { continue: next },
        },
        signal,
        timeoutMs: 60_000,
      });
      for (const object of page.items) {
        found.set(object.metadata.name, this.#keep(object));
      }
      version = page.metadata.resourceVersion;
      next = page.metadata.continue;
    } while (next);
    this.#replace(found);
    this.#version = version;
    this.#failures = 0;
    this.#options.onNote?.({ kind: "listed", count: found.size });
    this.#synced.resolve();
  }

  #replace(found: ReadonlyMap<string, T>): void {
    const gone = [...this.#objects.keys()].filter((name) => !found.has(name));
    for (const name of gone) this.#take(name, undefined);
    for (const [name, object] of found) this.#take(name, object);
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { client, random, watchMsMax = 600_000 } = this.#options;
    const seconds = Math.ceil(watchMsMax / 2_000 * (1 + random()));
    // The server ends the watch; a server that does not is given up a little later.
    const late = AbortSignal.timeout((seconds + 15) * 1_000);
    const startedMs = performance.now();
    let count = 0;
    const lines = client.lines({
      path: this.#path,
      query: {
        ...this.#selector,
        watch: "true",
        resourceVersion: this.#version!,
        allowWatchBookmarks: "true",
        timeoutSeconds: `${seconds}`,
      },
      signal: AbortSignal.any([signal, late]),
    });
    for await (const line of lines) {
      this.#hear(line);
      this.#failures = 0;
      count++;
    }
    // Opening the next one at once would keep both sides busy with nothing else.
    if (count === 0 && performance.now() - startedMs < watchMsMin) {
      throw new KubeError({
        code: 0,
        message: `Cannot watch ${this.#path}: the stream ended at once`,
      });
    }
  }

  #hear(line: string): void {
    const event = parseEvent<T>(line);
    if (event === undefined) throw new MalformedLine(line);
    if (event.type === "ERROR") {
      // Whatever the reason: this version leads nowhere.
      this.#version = undefined;
      const code = Number(event.object.code ?? 0);
      throw fromStatus(
        "go on watching",
        code,
        JSON.stringify(event.object),
        undefined,
      );
    }
    const { name, resourceVersion } = event.object.metadata;
    this.#version = resourceVersion;
    if (event.type === "BOOKMARK") return;
    if (event.type === "DELETED") return this.#take(name, undefined);
    const known = this.#objects.get(name);
    const isOld = known && known.metadata.uid === event.object.metadata.uid &&
      isNewer(known, event.object);
    // What a write was answered with is newer than this news of an earlier change.
    this.#take(name, isOld ? known : this.#keep(event.object));
  }

  #take(name: string, object: T | undefined): void {
    if (object) this.#objects.set(name, object);
    else if (!this.#bury(name)) return;
    this.#options.onChange(name, object);
  }

  #bury(name: string): boolean {
    const uid = this.#objects.get(name)?.metadata.uid;
    if (uid !== undefined) this.#tombstones.add(uid);
    if (this.#tombstones.size > tombstonesMax) {
      this.#tombstones.delete(this.#tombstones.values().next().value!);
    }
    return this.#objects.delete(name);
  }

  async #recover(reason: unknown, signal: AbortSignal): Promise<void> {
    const { onNote, random } = this.#options;
    this.#failures++;
    if (reason instanceof MalformedLine) {
      onNote?.({ kind: "malformed", line: reason.line.slice(0, 200) });
      this.#version = undefined;
    } else if (reason instanceof KubeError && reason.isExpired) {
      onNote?.({ kind: "expired" });
      this.#version = undefined;
      // The first time there is nothing to wait for: the list is what is missing.
      if (this.#failures === 1) return;
    } else onNote?.({ kind: "failed", reason });
    const waitMs = retryWaitMs(reason, this.#failures, {
      firstMs: 200,
      maxMs: 10_000,
      random,
    });
    await delay(waitMs, undefined, { signal }).catch(() => {
      // Stopped while waiting: the caller's loop ends.
    });
  }

  #keep(object: T): T {
    const { keep } = this.#options;
    if (keep) return keep(object);
    const metadata: Record<string, unknown> = { ...object.metadata };
    delete metadata.managedFields;
    return { ...object, metadata } as T;
  }

  get #path(): string {
    return pathOf(this.#options.type, { namespace: this.#options.namespace });
  }

  get #selector(): Record<string, string> {
    const { labelSelector } = this.#options;
    return labelSelector ? { labelSelector } : {};
  }
}

/** Versions are numbers in every server there is, though the API promises only equality. */
function isNewer(a: KubeObject, b: KubeObject): boolean {
  return Number(a.metadata.resourceVersion) >
    Number(b.metadata.resourceVersion);
}

class MalformedLine extends Error {
  readonly line: string;
  constructor(line: string) {
    super("Cannot read a line of the watch");
    this.line = line;
  }
}

interface WatchEvent<T> {
  readonly type: string;
  readonly object: T & Record<string, unknown>;
}

const eventTypes = new Set(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]);

/** `undefined` for anything that is no event of the API. */
function parseEvent<T extends KubeObject>(
  line: string,
): WatchEvent<T> | undefined {
  let value: Partial<WatchEvent<T>> | null;
  try {
    value = JSON.parse(line);
  } catch {
    // The caller counts it and lists again.
    return undefined;
  }
  const object = value?.object;
  if (typeof object !== "object" || object === null) return undefined;
  if (value?.type === "ERROR") return value as WatchEvent<T>;
  const version = object.metadata?.resourceVersion;
  const isEvent = eventTypes.has(value?.type ?? "") &&
    typeof version === "string" && version !== "" &&
    (value?.type === "BOOKMARK" || typeof object.metadata.name === "string");
  return isEvent ? value as WatchEvent<T> : undefined;
}
