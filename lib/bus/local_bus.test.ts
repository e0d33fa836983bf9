import { setImmediate } from "node:timers/promises";
import { NodeTracerProvider } from "@opentelemetry/sdk-trace-node";
import { beforeAll } from "vitest";
import { createFakeClock } from "../testing/mod.ts";
import { testBusContract } from "./bus_contract.ts";
import { createLocalBus } from "./local_bus.ts";

beforeAll(() => new NodeTracerProvider().register());

testBusContract("createLocalBus()", () => {
  const clock = createFakeClock();
  const bus = createLocalBus({ clock, queueMax: 16 });
  return Promise.resolve({
    a: bus,
    b: bus,
    ttlMs: 10_000,
    settle: () => setImmediate(),
    async pass(ms) {
      clock.advance(ms);
      await setImmediate();
    },
    [Symbol.asyncDispose]: () => bus[Symbol.asyncDispose](),
  });
});
