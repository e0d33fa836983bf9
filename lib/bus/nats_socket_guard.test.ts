import { deepEqual, equal } from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { test } from "vitest";
import { startNats } from "../testing/mod.ts";
import { connectBus } from "./nats_bus.ts";

test("refused logins leave no error behind that ends the process", async () => {
  await using nats = await startNats({ args: ["--user", "u", "--pass", "p"] });
  const url = `nats://u:wrong@127.0.0.1:${nats.port}`;
  const unheard: unknown[] = [];
  const hear = (error: unknown) => unheard.push(error);
  process.on("uncaughtException", hear);
  try {
    // Without the guard 5 of 100 end in an unheard ECONNRESET under Deno.
    for (let round = 0; round < 40; round++) {
      const logins = Array.from(
        { length: 5 },
        () => connectBus({ url, name: "test" }).catch((error) => error.name),
      );
      const names = await Promise.all(logins);
      deepEqual(new Set(names), new Set(["MeshError"]));
    }
    await delay(50);
  } finally {
    process.off("uncaughtException", hear);
  }
  equal(unheard.length, 0, `${unheard[0]}`);
});
