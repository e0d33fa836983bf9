import { equal, notEqual } from "node:assert/strict";
import { test } from "vitest";
import { waitFor } from "../testing/mod.ts";
import { PrefillClients } from "./prefill_clients.ts";

test("lease() shares one connection per address", () => {
  using clients = new PrefillClients({ idleMs: 60_000 });
  using first = clients.lease("127.0.0.1:1");
  using second = clients.lease("127.0.0.1:1");
  using other = clients.lease("127.0.0.1:2");
  equal(first.client, second.client);
  notEqual(first.client, other.client);
  equal(clients.count, 2);
});

test("a connection closes when nobody has used it for a while", async () => {
  using clients = new PrefillClients({ idleMs: 30 });
  const first = clients.lease("127.0.0.1:1");
  const second = clients.lease("127.0.0.1:1");
  first[Symbol.dispose]();
  await new Promise((resolve) => setTimeout(resolve, 60));
  equal(clients.count, 1);
  second[Symbol.dispose]();
  using again = clients.lease("127.0.0.1:1");
  await new Promise((resolve) => setTimeout(resolve, 60));
  equal(clients.count, 1);
  equal(again.client, second.client);
  again[Symbol.dispose]();
  await waitFor(() => clients.count === 0);
});
