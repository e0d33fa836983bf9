import { setTimeout as delay } from "node:timers/promises";
import { Kvm } from "@nats-io/kv";
import { connect } from "@nats-io/transport-node";
import { NodeTracerProvider } from "@opentelemetry/sdk-trace-node";
import { afterAll, beforeAll } from "vitest";
import { type NatsServer, startNats, waitFor } from "../testing/mod.ts";
import { aborter, testBusContract } from "./bus_contract.ts";
import { connectBus } from "./nats_bus.ts";
import type { MeshBus } from "./options.ts";

const ttlMs = 1_000;
let nats: NatsServer;

beforeAll(async () => {
  new NodeTracerProvider().register();
  nats = await startNats();
});
afterAll(() => nats[Symbol.asyncDispose]());

testBusContract("connectBus()", async () => {
  await emptyBucket();
  const options = { url: nats.url, workerTtlMs: ttlMs, queueMax: 16 };
  const a = await connectBus({ ...options, name: "a" });
  const b = await connectBus({ ...options, name: "b" });
  return {
    a,
    b,
    ttlMs,
    settle: () => settle(a, b),
    pass: (ms) => delay(ms),
    async [Symbol.asyncDispose]() {
      await a[Symbol.asyncDispose]();
      await b[Symbol.asyncDispose]();
    },
  };
});

let probes = 0;

/** A request that is answered passed everything said before it, subscriptions included. */
async function settle(a: MeshBus, b: MeshBus): Promise<void> {
  for (const [from, to] of [[a, b], [b, a]]) {
    const workerId = `probe-${++probes}`;
    using abort = aborter();
    using _served = to.serveKvDump(workerId, () => ({ workerId, models: [] }));
    await waitFor(() => from.requestKvDump(workerId, abort.signal));
  }
}

/** Gives the next test an empty bucket on the same server. */
async function emptyBucket(): Promise<void> {
  const nc = await connect({ servers: nats.url });
  for (const name of ["workers", "models"]) {
    const bucket = await new Kvm(nc).open(name);
    // The first test finds none.
    await bucket.destroy().catch(() => {});
  }
  await nc.close();
}
