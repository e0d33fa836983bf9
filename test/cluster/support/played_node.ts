import { setTimeout as delay } from "node:timers/promises";
import type { Bus } from "../../../lib/bus/types.ts";
import {
  Informer,
  type KubeClient,
  KubeError,
  type KubeObject,
  resourceTypes,
} from "../../../services/autoscaler/kube/mod.ts";
import { FakeWorker, type FakeWorkerOptions } from "./fake_worker.ts";
import { namespace } from "./test_cluster.ts";

type Pod = KubeObject & { readonly spec: { readonly nodeName?: string } };

export interface PlayedNodeOptions {
  readonly client: KubeClient;
  readonly bus: Bus;
  readonly worker?: Partial<FakeWorkerOptions>;
}

const nodeName = "played-node";

/**
 * Plays the kubelet of one node: pods that the scheduler puts there become ready
 * and join the mesh as fake workers; deleted ones leave it and are gone.
 */
export class PlayedNode implements AsyncDisposable {
  /** By pod name. */
  readonly workers = new Map<string, FakeWorker>();
  readonly #options: PlayedNodeOptions;
  readonly #stop = new AbortController();
  readonly #starting = new Map<string, Promise<void>>();
  readonly #ending = new Set<string>();
  #running: Promise<unknown> = Promise.resolve();

  private constructor(options: PlayedNodeOptions) {
    this.#options = options;
  }

  static async start(options: PlayedNodeOptions): Promise<PlayedNode> {
    const node = new PlayedNode(options);
    await node.#register();
    const heart = setInterval(() => void node.#beat(), 5_000);
    node.#stop.signal.addEventListener("abort", () => clearInterval(heart));
    const pods = new Informer<Pod>({
      client: options.client,
      type: resourceTypes.pod,
      namespace,
      random: Math.random,
      onChange: (name, pod) => node.#take(name, pod),
    });
    node.#running = pods.run(node.#stop.signal);
    await pods.synced;
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await Promise.allSettled(this.#starting.values());
    for (const worker of this.workers.values()) {
      await worker[Symbol.asyncDispose]();
    }
  }

  async #register(): Promise<void> {
    await this.#options.client.call({
      method: "POST",
      path: "/api/v1/nodes",
      body: { apiVersion: "v1", kind: "Node", metadata: { name: nodeName } },
    });
    await this.#beat();
  }

  async #beat(): Promise<void> {
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const capacity = { cpu: "1000", memory: "4Ti", pods: "1000" };
    await this.#options.client.call({
      method: "PATCH",
      path: `/api/v1/nodes/${nodeName}/status`,
      contentType: "application/merge-patch+json",
      body: {
        status: {
          capacity,
          allocatable: capacity,
          conditions: [{
            type: "Ready",
            status: "True",
            reason: "Played",
            message: "A test plays the kubelet",
            lastHeartbeatTime: now,
            lastTransitionTime: now,
          }],
        },
      },
    }).catch(() => {
      // The API server is down for a test; the next beat tells it.
    });
  }

  #take(name: string, pod: Pod | undefined): void {
    if (!pod) return;
    if (pod.metadata.deletionTimestamp !== undefined) {
      if (this.#ending.has(name)) return;
      this.#ending.add(name);
      void this.#end(name);
      return;
    }
    if (pod.spec.nodeName === undefined || this.#starting.has(name)) return;
    this.#starting.set(name, this.#begin(name, pod));
  }

  async #begin(name: string, pod: Pod): Promise<void> {
    const { bus, worker } = this.#options;
    const isPrefill =
      pod.metadata.labels?.["app.kubernetes.io/component"] === "prefill";
    this.workers.set(
      name,
      await FakeWorker.start({
        bus,
        podName: name,
        role: isPrefill ? "prefill" : "decode",
        ...worker,
      }),
    );
    await this.#untilHeard(() => this.#setReady(name));
  }

  /** A kubelet repeats itself until it is heard: tests stop the API server. */
  async #untilHeard(tell: () => Promise<unknown>): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        return void await tell();
      } catch (reason) {
        if (!(reason instanceof KubeError)) throw reason;
        // Gone already, or deleted before it was ready.
        if (reason.isNotFound) return;
        if (reason.code > 0 && reason.code < 500) throw reason;
        await delay(200);
      }
    }
  }

  async #setReady(name: string): Promise<void> {
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const condition = (type: string) => ({
      type,
      status: "True",
      lastTransitionTime: now,
    });
    await this.#options.client.call({
      method: "PATCH",
      path: `/api/v1/namespaces/${namespace}/pods/${name}/status`,
      contentType: "application/merge-patch+json",
      body: {
        status: {
          phase: "Running",
          podIP: "10.1.2.3",
          startTime: now,
          conditions: [
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
          ].map(condition),
        },
      },
    });
  }

  async #end(name: string): Promise<void> {
    await this.#starting.get(name)?.catch(() => {});
    await this.workers.get(name)?.[Symbol.asyncDispose]();
    this.workers.delete(name);
    await this.#untilHeard(() =>
      this.#options.client.call({
        method: "DELETE",
        path: `/api/v1/namespaces/${namespace}/pods/${name}`,
        query: { gracePeriodSeconds: "0" },
      })
    );
  }
}
