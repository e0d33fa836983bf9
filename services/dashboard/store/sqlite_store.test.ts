import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { tempDir } from "../../../lib/testing/mod.ts";
import { plainRequest, plainSpan } from "../testing/spans.ts";
import { openDatabase } from "./database.ts";
import { type CheckedQuery, openSqliteStore, QueryError } from "./mod.ts";

const startMs = 1_700_000_000_000;
const open = (path = ":memory:") =>
  openSqliteStore({ path, spansPerTraceMax: 10 });
const idOf = (n: number) => n.toString(16).padStart(32, "0").replace(/^0/, "a");

const requests = [
  { n: 1, model: "a", tenant: "x", ms: 10, prompt: 5, output: 9, worker: "w1" },
  {
    n: 2,
    model: "a",
    tenant: "y",
    ms: 20,
    prompt: 50,
    output: 8,
    worker: "w2",
  },
  {
    n: 3,
    model: "b",
    tenant: "x",
    ms: 20,
    prompt: 500,
    output: 7,
    worker: "w1",
  },
  { n: 4, model: "b", ms: 40, prompt: 5_000, output: 6, status: "error" },
  { n: 5, model: "c'; --", tenant: "%", ms: 50, status: "cancelled" },
] as const;

async function filled() {
  const store = await open();
  store.put(requests.map(({ n, ms, ...request }) =>
    plainRequest({
      traceId: idOf(n),
      startAtMs: startMs + n * 1_000,
      durationMs: ms,
      promptTokens: "prompt" in request ? request.prompt : undefined,
      outputTokens: "output" in request ? request.output : undefined,
      ...request,
    })
  ));
  return store;
}

const searches: [query: CheckedQuery, found: number[]][] = [
  [{}, [5, 4, 3, 2, 1]],
  [{ order: "oldest" }, [1, 2, 3, 4, 5]],
  [{ order: "slowest" }, [5, 4, 3, 2, 1]],
  [{ order: "fastest" }, [1, 2, 3, 4, 5]],
  [{ model: ["a"] }, [2, 1]],
  [{ model: ["a", "b"], tenant: "x" }, [3, 1]],
  [{ model: ["c'; --"] }, [5]],
  [{ model: ["%"] }, []],
  [{ tenant: "%" }, [5]],
  [{ status: "error" }, [4]],
  [{ status: "cancelled" }, [5]],
  [{ status: "ok" }, [3, 2, 1]],
  [{ durationMsMin: 20, durationMsMax: 40 }, [4, 3, 2]],
  [{ ttftMsMin: 10, ttftMsMax: 10 }, [3, 2]],
  [{ promptTokensMin: 50, promptTokensMax: 500 }, [3, 2]],
  [{ outputTokensMax: 7 }, [5, 4, 3]],
  [{ fromMs: startMs + 2_000, toMs: startMs + 4_000 }, [4, 3, 2]],
  [{ worker: "w1" }, [3, 1]],
  [{ worker: "w" }, []],
  [{ traceId: idOf(3) }, [3]],
  [{ traceId: "a000" }, [5, 4, 3, 2, 1]],
  [{ traceId: "b000" }, []],
  [{ requestId: "chatcmpl-a00000" }, [5, 4, 3, 2, 1]],
  [{ requestId: "chatcmpl" }, []],
];

for (const [query, found] of searches) {
  test(`list() with ${JSON.stringify(query)} finds ${found}`, async () => {
    using store = await filled();
    const { traces, nextCursor } = store.list(query);
    deepEqual(traces.map(({ traceId }) => traceId), found.map(idOf));
    equal(nextCursor, undefined);
    equal(store.stats(query, startMs + 9_000).count, found.length);
  });
}

for (const order of ["newest", "oldest", "slowest", "fastest"] as const) {
  test(`pages by ${order} hold each trace once, also where times are equal`, async () => {
    using store = await open();
    store.put(Array.from({ length: 57 }, (_, n) =>
      plainRequest({
        traceId: idOf(n),
        startAtMs: startMs + Math.floor(n / 10),
        durationMs: 5 + n % 3,
      })));
    const whole = store.list({ order, limit: 200 }).traces;
    const paged = [];
    let cursor: string | undefined;
    let pages = 0;
    do {
      const page = store.list({ order, limit: 10, ...(cursor && { cursor }) });
      paged.push(...page.traces);
      cursor = page.nextCursor;
      // What arrives meanwhile does not shift the pages behind.
      store.put([plainRequest({
        traceId: idOf(1_000 + pages),
        startAtMs: order === "oldest" ? startMs - 1 : startMs + 99_999,
        durationMs: order === "fastest" ? 1 : 99_999,
      })]);
      pages++;
    } while (cursor !== undefined);
    deepEqual(paged, whole);
    equal(pages, 6);
  });
}

test("a cursor of another order, or none at all, is refused", async () => {
  using store = await filled();
  const { nextCursor } = store.list({ limit: 1 });
  ok(nextCursor);
  for (const cursor of ["", "x", "WzFd", btoa("[1,2,3]")]) {
    throws(() => store.list({ cursor }), QueryError);
  }
  throws(
    () => store.list({ cursor: nextCursor, order: "slowest" }),
    QueryError,
  );
});

test("spans that come later join their trace; repeated ones do not count twice", async () => {
  using store = await open();
  const request = plainRequest({
    traceId: idOf(1),
    startAtMs: startMs,
    durationMs: 10,
  });
  const [root, ...rest] = request.spans;
  store.put([{ ...request, spans: rest }]);
  equal(store.list({}).traces[0].open, true);
  store.put([{ ...request, spans: [root, rest[0]] }]);
  const [summary] = store.list({}).traces;
  deepEqual([summary.open, summary.spanCount, summary.durationMs], [
    false,
    3,
    10,
  ]);
  deepEqual([store.counts().traces, store.counts().spans], [1, 3]);
  const flood = Array.from({ length: 30 }, () => plainSpan());
  store.put([{ ...request, spans: flood }]);
  const stored = store.get(idOf(1))!;
  deepEqual([stored.spans.length, stored.spansLeftOut], [10, 23]);
});

test("prune() deletes what is too old and nothing else", async () => {
  using store = await filled();
  const limits = { ageMs: 2_500, bytesMax: 1e12 };
  equal(store.prune(limits, startMs + 5_000), 2);
  deepEqual(store.list({}).traces.map((t) => t.traceId), [5, 4, 3].map(idOf));
  equal(store.prune(limits, startMs + 5_000), 0);
  equal(store.get(idOf(1)), undefined);
  deepEqual(store.counts().traces, 3);
});

test("prune() by size deletes the oldest until there is room again", async () => {
  using store = await open();
  const incompressible = () =>
    Array.from({ length: 400 }, () => Math.random().toString(36)).join("");
  for (let n = 0; n < 200; n++) {
    const request = plainRequest({
      traceId: idOf(n),
      startAtMs: startMs + n,
      durationMs: 5,
    });
    request.spans.push(plainSpan({
      startAtMs: startMs + n,
      attributes: { noise: incompressible() },
    }));
    store.put([request]);
  }
  const before = store.counts();
  const limits = { ageMs: 1e12, bytesMax: before.bytes / 2 };
  while (store.prune(limits, startMs) > 0);
  const after = store.counts();
  ok(after.bytes <= limits.bytesMax, `${after.bytes} of ${limits.bytesMax}`);
  ok(after.traces > 60 && after.traces < 110, `${after.traces} left`);
  equal(store.list({}).traces[0].traceId, idOf(199), "the newest stay");
  equal(after.oldestAtMs, startMs + 200 - after.traces);
});

test("stats() counts all, and slices add up to the whole", async () => {
  using store = await filled();
  const stats = store.stats({}, startMs + 6_000);
  deepEqual([stats.count, stats.errors, stats.cancelled], [5, 1, 1]);
  equal(stats.promptTokens, 5 + 50 + 500 + 5_000 + 10);
  deepEqual(stats.durationMs, { p50: 20, p90: 50, p95: 50, p99: 50, max: 50 });
  equal(stats.slices.length, 60);
  equal(stats.slices.reduce((sum, { count }) => sum + count, 0), 5);
  equal(stats.slices[0].fromMs, startMs + 1_000);
  equal(stats.slices[59].toMs, startMs + 6_000);
  const none = store.stats({ tenant: "nobody" }, startMs);
  deepEqual([none.count, none.durationMs.p50, none.slices], [0, null, []]);
});

test("the file is its owner's alone, survives, and is not read by another version", async () => {
  await using dir = await tempDir("store");
  const path = join(dir.path, "t.sqlite");
  {
    using store = await open(path);
    store.put([
      plainRequest({ traceId: idOf(1), startAtMs: 1, durationMs: 1 }),
    ]);
    equal(statSync(path).mode & 0o777, 0o600);
  }
  {
    using store = await open(path);
    deepEqual([store.counts().traces, store.counts().spans], [1, 3]);
    equal(store.has(idOf(1)), true);
  }
  {
    using database = await openDatabase(path);
    database.exec("PRAGMA user_version = 99");
  }
  await rejects(() => open(path), /needs version 1, found 99; move the file/);
});
