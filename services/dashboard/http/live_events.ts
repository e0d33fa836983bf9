import type { ServerEvents, Session, TraceSummary } from "../api_types.ts";
import type { Collector } from "../collector.ts";
import type { LiveMesh } from "../mesh/live_mesh.ts";
import { type EventStream, openEventStream } from "./event_stream.ts";

export const eventKinds = [
  "hello",
  "traces",
  "mesh",
  "models",
  "ping",
] as const satisfies readonly (keyof ServerEvents)[];

type Kind = keyof ServerEvents;

const streamsMax = 256;
const meshMs = 500;
const modelsMs = 1_000;
const pingMs = 15_000;
/** Traces of one event; more would not be read by anybody. */
const tracesMax = 500;

interface Client {
  readonly stream: EventStream;
  readonly kinds: ReadonlySet<Kind>;
}

/** Sends the present state to every open page, each event encoded once per beat at most. */
export class LiveEvents implements Disposable {
  readonly #mesh: LiveMesh;
  readonly #clients = new Set<Client>();
  readonly #open = new DisposableStack();
  readonly #fresh = new Map<string, TraceSummary>();
  #meshDirty = true;

  constructor({ mesh, collector }: { mesh: LiveMesh; collector: Collector }) {
    this.#mesh = mesh;
    this.#open.use(mesh.onChange(() => this.#meshDirty = true));
    this.#open.use(collector.listen({
      changed: (summaries) => this.#gather(summaries),
      isIdle: () => this.#clients.size === 0,
    }));
    this.#every(250, () => this.#sendTraces());
    this.#every(meshMs, () => this.#sendMesh());
    this.#every(modelsMs, () => this.#send("models", () => mesh.models()));
    this.#every(pingMs, () => this.#send("ping", () => ({ atMs: Date.now() })));
  }

  get size(): number {
    return this.#clients.size;
  }

  /** `undefined`: too many pages are open. */
  connect(kinds: ReadonlySet<Kind>, session: Session): Response | undefined {
    if (this.#clients.size >= streamsMax) return undefined;
    const stream = openEventStream(() => this.#clients.delete(client));
    const client: Client = { stream, kinds };
    this.#clients.add(client);
    if (kinds.has("hello")) stream.send("hello", session);
    if (kinds.has("mesh")) stream.send("mesh", this.#mesh.state());
    if (kinds.has("models")) stream.send("models", this.#mesh.models());
    return stream.response;
  }

  [Symbol.dispose](): void {
    this.#open[Symbol.dispose]();
    for (const { stream } of this.#clients) stream.close();
  }

  #every(ms: number, work: () => void): void {
    const timer = setInterval(work, ms);
    this.#open.defer(() => clearInterval(timer));
  }

  #gather(summaries: readonly TraceSummary[]): void {
    if (this.#clients.size === 0) return;
    for (const summary of summaries) {
      if (this.#fresh.size >= tracesMax) return;
      this.#fresh.set(summary.traceId, summary);
    }
  }

  #sendTraces(): void {
    if (this.#fresh.size === 0) return;
    const summaries = [...this.#fresh.values()];
    this.#fresh.clear();
    this.#send("traces", () => summaries);
  }

  #sendMesh(): void {
    if (!this.#meshDirty) return;
    this.#meshDirty = false;
    this.#send("mesh", () => this.#mesh.state());
  }

  #send<K extends Kind>(kind: K, make: () => ServerEvents[K]): void {
    const readers = [...this.#clients].filter(({ kinds }) => kinds.has(kind));
    if (readers.length === 0) return;
    const data = make();
    for (const { stream } of readers) stream.send(kind, data);
  }
}
