import { jetstreamManager } from "@nats-io/jetstream";
import type { KV } from "@nats-io/kv";
import type { NatsConnection } from "@nats-io/transport-node";

export interface ListedEntry {
  readonly key: string;
  readonly data: Uint8Array;
  /** By the server's clock. */
  readonly createdMs: number;
}

/** Everything in a bucket; unlike a watch it leaves no consumer behind on the server. */
export async function listBucket(
  nc: NatsConnection,
  bucket: KV,
  name: string,
): Promise<ListedEntry[]> {
  const prefix = `$KV.${name}.`;
  const manager = await jetstreamManager(nc);
  const { state } = await manager.streams.info(`KV_${name}`, {
    subjects_filter: `${prefix}>`,
  });
  const keys = Object.keys(state.subjects ?? {})
    .map((subject) => subject.slice(prefix.length));
  const entries = await Promise.all(keys.map((key) => bucket.get(key)));
  return entries.filter((entry) => entry?.operation === "PUT")
    .map((entry) => ({
      key: entry!.key,
      data: entry!.value,
      createdMs: entry!.created.getTime(),
    }));
}
