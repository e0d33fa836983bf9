import {
  type KubeClient,
  type KubeObject,
  pathOf,
  type ResourceType,
  stableJson,
} from "../kube/mod.ts";
import type { ControllerMetrics } from "../metrics.ts";
import { drainFinalizer } from "./resources.ts";

export interface WriterOptions {
  readonly client: KubeClient;
  readonly manager: string;
  readonly metrics: ControllerMetrics;
}

/** Writes to our own resources; each only when it changes something. */
export class Writer {
  readonly #options: WriterOptions;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  /** Answers with the object as it is afterwards; `undefined`: nothing to write. */
  async status<T extends KubeObject>(
    type: ResourceType,
    object: T,
    status: Readonly<Record<string, unknown>>,
  ): Promise<T | undefined> {
    if (stableJson(object.status ?? {}) === stableJson(status)) {
      return undefined;
    }
    const { client, manager, metrics } = this.#options;
    const { namespace, name } = object.metadata;
    metrics.writes.inc({ kind: `${type.kind}/status` });
    return await client.call<T>({
      method: "PATCH",
      path: pathOf(type, { namespace, name, subresource: "status" }),
      // Nobody else may have a say in what we see.
      query: { fieldManager: manager, force: "true" },
      contentType: "application/apply-patch+yaml",
      body: {
        apiVersion: type.apiVersion,
        kind: type.kind,
        metadata: { name, namespace },
        status,
      },
    });
  }

  /** Adds our finalizer; answers with the object as it is afterwards. */
  async addFinalizer<T extends KubeObject>(
    type: ResourceType,
    object: T,
  ): Promise<T> {
    const finalizers = object.metadata.finalizers ?? [];
    if (finalizers.includes(drainFinalizer)) return object;
    return await this.#finalizers(type, object, [
      ...finalizers,
      drainFinalizer,
    ]);
  }

  /** Lets the object go. */
  async removeFinalizer<T extends KubeObject>(
    type: ResourceType,
    object: T,
  ): Promise<void> {
    const finalizers = object.metadata.finalizers ?? [];
    if (!finalizers.includes(drainFinalizer)) return;
    const rest = finalizers.filter((name) => name !== drainFinalizer);
    await this.#finalizers(type, object, rest);
  }

  #finalizers<T extends KubeObject>(
    type: ResourceType,
    object: T,
    finalizers: readonly string[],
  ): Promise<T> {
    const { client, manager, metrics } = this.#options;
    const { namespace, name, resourceVersion } = object.metadata;
    metrics.writes.inc({ kind: type.kind });
    return client.call<T>({
      method: "PATCH",
      path: pathOf(type, { namespace, name }),
      query: { fieldManager: manager },
      contentType: "application/merge-patch+json",
      // The version makes it fail when another finalizer came meanwhile.
      body: { metadata: { resourceVersion, finalizers } },
    });
  }
}
