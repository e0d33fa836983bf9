import type { KubeClient } from "./kube_client.ts";
import { type KubeObject, pathOf, resourceTypes } from "./objects.ts";

export interface EventNote {
  readonly about: KubeObject;
  readonly type: "Normal" | "Warning";
  /** One word in CamelCase, for programs. */
  readonly reason: string;
  /** A sentence, for people. */
  readonly message: string;
}

export interface EventRecorderOptions {
  readonly client: KubeClient;
  /** Shown as the event's source. */
  readonly component: string;
  readonly instance: string;
  /** Wall clock; events carry dates. */
  readonly nowMs: () => number;
  readonly onFailure: (reason: unknown) => void;
}

/** The same event within this time counts up instead of being a new one. */
const sameMs = 600_000;
/** A repeated event is written at most this often. */
const writeMs = 10_000;
/** Events of one object in a minute; what a broken object has to say fits in. */
const perMinuteMax = 20;
const seriesMax = 1_000;

interface Series {
  readonly name: string;
  readonly firstMs: number;
  count: number;
  writtenMs: number;
}

/**
 * Tells an object's story in Events.
 *
 * Repetitions are counted in one Event, a flood about one object is cut off,
 * and nothing waits for the writes: events are for people, losing one is no fault.
 */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #series = new Map<string, Series>();
  readonly #rates = new Map<string, { sinceMs: number; count: number }>();
  readonly #writes = new Set<Promise<void>>();

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  record(note: EventNote): void {
    const write = this.#record(note).catch(this.#options.onFailure);
    this.#writes.add(write);
    void write.finally(() => this.#writes.delete(write));
  }

  /** Waits for the writes that are under way. */
  async flush(): Promise<void> {
    await Promise.all(this.#writes);
  }

  async #record(note: EventNote): Promise<void> {
    const nowMs = this.#options.nowMs();
    const key = seriesKey(note);
    const series = this.#series.get(key);
    if (series && nowMs - series.firstMs < sameMs) {
      series.count++;
      if (nowMs - series.writtenMs < writeMs) return;
      series.writtenMs = nowMs;
      return await this.#count(note, series, nowMs);
    }
    if (this.#isFlood(note, nowMs)) return;
    const name = `${note.about.metadata.name}.${nowMs.toString(16)}${
      (this.#series.size % 4_096).toString(16).padStart(3, "0")
    }`;
    this.#series.delete(key);
    this.#series.set(key, { name, firstMs: nowMs, count: 1, writtenMs: nowMs });
    if (this.#series.size > seriesMax) {
      this.#series.delete(this.#series.keys().next().value!);
    }
    await this.#create(note, name, nowMs);
  }

  async #create(note: EventNote, name: string, nowMs: number): Promise<void> {
    const { client, component, instance } = this.#options;
    const { about, type, reason, message } = note;
    const { namespace, uid, resourceVersion } = about.metadata;
    const time = secondOf(nowMs);
    await client.call({
      method: "POST",
      path: pathOf(resourceTypes.event, { namespace }),
      body: {
        apiVersion: "v1",
        kind: "Event",
        metadata: { name, namespace },
        involvedObject: {
          apiVersion: about.apiVersion,
          kind: about.kind,
          name: about.metadata.name,
          namespace,
          uid,
          resourceVersion,
        },
        type,
        reason,
        message: message.slice(0, 1_024),
        source: { component },
        reportingComponent: component,
        reportingInstance: instance,
        firstTimestamp: time,
        lastTimestamp: time,
        count: 1,
      },
    });
  }

  async #count(
    { about }: EventNote,
    { name, count }: Series,
    nowMs: number,
  ): Promise<void> {
    const { namespace } = about.metadata;
    await this.#options.client.call({
      method: "PATCH",
      path: pathOf(resourceTypes.event, { namespace, name }),
      contentType: "application/merge-patch+json",
      body: { count, lastTimestamp: secondOf(nowMs) },
    });
  }

  #isFlood({ about }: EventNote, nowMs: number): boolean {
    const key = about.metadata.uid ?? about.metadata.name;
    const rate = this.#rates.get(key);
    if (!rate || nowMs - rate.sinceMs >= 60_000) {
      this.#rates.delete(key);
      this.#rates.set(key, { sinceMs: nowMs, count: 1 });
      if (this.#rates.size > seriesMax) {
        this.#rates.delete(this.#rates.keys().next().value!);
      }
      return false;
    }
    return ++rate.count > perMinuteMax;
  }
}

function seriesKey({ about, type, reason, message }: EventNote): string {
  return [about.metadata.uid, type, reason, message].join("\n");
}

/** Kubernetes' `Time` has whole seconds. */
function secondOf(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}
