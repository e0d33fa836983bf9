import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "vitest";
import { waitFor } from "../../../lib/testing/mod.ts";
import type { KubeClient, KubeRequest } from "./kube_client.ts";
import { KubeError } from "./kube_error.ts";
import { LeaderElection, type LeaderNote } from "./leader.ts";

interface StoredLease {
  metadata: { name: string; resourceVersion: string };
  spec: { holderIdentity?: string };
}

/** One Lease, with the optimistic locking of the real thing. */
function leaseServer() {
  let lease: StoredLease | undefined;
  let version = 0;
  const server = {
    down: false,
    reads: 0,
    get holder() {
      return lease?.spec.holderIdentity;
    },
    client: {
      // deno-lint-ignore require-await
      async call<T>({ method = "GET", body }: KubeRequest): Promise<T> {
        if (server.down) throw new KubeError({ code: 0, message: "down" });
        if (method === "GET") server.reads++;
        const given = body as StoredLease | undefined;
        const stale = method === "PUT" &&
          given?.metadata.resourceVersion !== lease?.metadata.resourceVersion;
        if (stale || (method === "POST" && lease)) {
          throw new KubeError({ code: 409, message: "conflict" });
        }
        if (given) {
          const metadata = { name: "l", resourceVersion: `${++version}` };
          lease = { metadata, spec: given.spec };
        }
        if (!lease) throw new KubeError({ code: 404, message: "none" });
        return structuredClone(lease) as T;
      },
      async *lines() {},
      [Symbol.dispose]() {},
    } as KubeClient,
  };
  return server;
}

function candidate(
  server: ReturnType<typeof leaseServer>,
  identity: string,
  notes: LeaderNote["kind"][] = [],
  standstillMs = () => 0,
) {
  return new LeaderElection({
    client: server.client,
    namespace: "ns",
    leaseName: "l",
    identity,
    leaseMs: 300,
    renewMsMax: 200,
    everyMs: 20,
    nowMs: () => performance.now() + standstillMs(),
    random: () => 0.5,
    onNote: ({ kind }) => notes.push(kind),
  });
}

test("one of two candidates leads, and the other follows when it stops", async () => {
  const server = leaseServer();
  const story: string[] = [];
  const run = (name: string, stop: AbortController) =>
    candidate(server, name).run((signal) => {
      story.push(`${name} leads`);
      return new Promise((resolve) =>
        signal.addEventListener("abort", () => resolve(), { once: true })
      );
    }, stop.signal);
  const [stopA, stopB] = [new AbortController(), new AbortController()];
  const a = run("a", stopA);
  await waitFor(() => story.length === 1);
  const b = run("b", stopB);
  await new Promise((resolve) => setTimeout(resolve, 100));
  deepEqual(story, ["a leads"]);
  stopA.abort();
  equal(await a, true);
  await waitFor(() => story.length === 2);
  deepEqual(story, ["a leads", "b leads"]);
  stopB.abort();
  await b;
  equal(server.holder, "");
});

test("a lease that is not renewed is taken over only after its whole time", async () => {
  const server = leaseServer();
  await server.client.call({
    path: "",
    method: "POST",
    body: { spec: { holderIdentity: "dead", leaseDurationSeconds: 0.3 } },
  });
  const startMs = performance.now();
  await candidate(server, "heir").run(
    () => Promise.resolve(),
    new AbortController().signal,
  );
  ok(performance.now() - startMs >= 300);
});

test("a leader that cannot renew is told before its lease ends", async () => {
  const server = leaseServer();
  const startedMs = performance.now();
  let lostAfterMs = 0;
  const led = await candidate(server, "a").run((signal) => {
    server.down = true;
    return new Promise((resolve) =>
      signal.addEventListener("abort", () => {
        lostAfterMs = performance.now() - startedMs;
        resolve();
      }, { once: true })
    );
  }, new AbortController().signal);
  equal(led, false);
  ok(lostAfterMs < 300, `it led for ${lostAfterMs} ms`);
});

test("a leader renews without reading, and reads again when somebody touched the lease", async () => {
  const server = leaseServer();
  const led = await candidate(server, "a").run(async () => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    equal(server.reads, 1);
    const lease = await server.client.call<StoredLease>({ path: "" });
    await server.client.call({ path: "", method: "PUT", body: lease });
    await new Promise((resolve) => setTimeout(resolve, 400));
    // Ours, the one after the conflict, and none besides.
    equal(server.reads, 3);
  }, new AbortController().signal);
  equal(led, true);
});

test("a leader that stood still knows before its timers do that it may lead no longer", async () => {
  const server = leaseServer();
  let standstillMs = 0;
  const election = candidate(server, "a", [], () => standstillMs);
  equal(election.holds, false);
  await election.run((_signal) => {
    equal(election.holds, true);
    // As after a stop of the process: time has passed, and no timer has run.
    standstillMs = 250;
    equal(election.holds, false);
    return Promise.resolve();
  }, new AbortController().signal);
});

test("a leader whose lease another one holds stops", async () => {
  const server = leaseServer();
  const led = await candidate(server, "a").run(async (signal) => {
    const lease = await server.client.call<StoredLease>({ path: "" });
    lease.spec.holderIdentity = "thief";
    await server.client.call({ path: "", method: "PUT", body: lease });
    await new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => resolve(), { once: true })
    );
  }, new AbortController().signal);
  equal(led, false);
  equal(server.holder, "thief");
});
