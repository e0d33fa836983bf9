import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "vitest";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { tempDir, waitFor } from "../testing/mod.ts";
import { fetchModel, type FetchModelOptions } from "./fetch_model.ts";
import { parseSource } from "./parse_source.ts";
import {
  type FileServer,
  isResumed,
  sha256,
  startFileServer,
} from "./testing/file_server.ts";
import { isSameSource, sourceText } from "./types.ts";

/** Longer than what leaves in one piece. */
const content = Uint8Array.from(
  { length: 300_000 },
  (_, i) => (i * 2_654_435_761) >>> 13,
);
const checksum = sha256(content);
const other = Uint8Array.from(content, (byte) => byte ^ 1);

let folder: string;
let server: FileServer;
let undo: AsyncDisposableStack;
let shares: number[];

beforeEach(async () => {
  undo = new AsyncDisposableStack();
  folder = undo.use(await tempDir("models")).path;
  server = undo.use(await startFileServer(content));
  shares = [];
});
afterEach(() => undo.disposeAsync());

function options(more: Partial<FetchModelOptions> = {}): FetchModelOptions {
  return {
    folder,
    bytesMax: 1 << 20,
    signal: new AbortController().signal,
    onProgress: (share) => shares.push(share),
    retryMs: 1,
    ...more,
  };
}

const fetchUrl = (more: Partial<FetchModelOptions> = {}, sha = checksum) =>
  fetchModel({ url: server.url, sha256: sha }, options(more));

function isCode(code: Code, message: RegExp) {
  return (reason: unknown) => {
    ok(reason instanceof MeshError, String(reason));
    equal(reason.code, code, reason.message);
    ok(message.test(reason.message), reason.message);
    return true;
  };
}

/** Names in the cache, without the checksum that begins them. */
function cached(): string[] {
  return readdirSync(folder).map((name) => name.replace(/^[0-9a-f]{64}/, ""))
    .toSorted();
}

describe("a URL", () => {
  test("is downloaded once, checked, and told about on the way", async () => {
    const path = await fetchUrl();
    deepEqual(readFileSync(path), Buffer.from(content));
    deepEqual(cached(), [".gguf", ".ok"]);
    equal(await fetchUrl(), path);
    equal(server.asked.length, 1);
    deepEqual(shares, shares.toSorted((a, b) => a - b));
    equal(shares.at(-1), 1);
  });

  test("goes on where the connection broke", async () => {
    server.faults.push({ kind: "cut", afterBytes: 100_000 }, {
      kind: "cut",
      afterBytes: 50_000,
    });
    deepEqual(readFileSync(await fetchUrl()), Buffer.from(content));
    equal(server.asked.length, 3);
    ok(isResumed(server.asked[1], 100_000), `${server.asked[1]}`);
    ok(isResumed(server.asked[2], 150_000), `${server.asked[2]}`);
  });

  test("goes on in the next process", async () => {
    server.faults.push({ kind: "cut", afterBytes: 100_000 });
    await rejects(fetchUrl({ attemptsMax: 1 }), isCode(Code.unavailable, /./));
    deepEqual(cached(), [".from", ".part"]);
    await fetchUrl();
    equal(server.asked.length, 2);
    ok(isResumed(server.asked[1], 100_000), `${server.asked[1]}`);
  });

  test("begins anew when the server does not know ranges", async () => {
    server.ranges = false;
    server.faults.push({ kind: "cut", afterBytes: 100_000 });
    deepEqual(readFileSync(await fetchUrl()), Buffer.from(content));
    equal(server.asked.length, 2);
  });

  test("begins anew when the file has changed meanwhile", async () => {
    server.content = other;
    server.faults.push({ kind: "cut", afterBytes: 100_000 });
    const fetching = fetchUrl({ retryMs: 100 });
    await waitFor(() => existsSync(join(folder, `${checksum}.from`)));
    server.content = content;
    server.etag = '"two"';
    deepEqual(readFileSync(await fetching), Buffer.from(content));
  });

  test("made of two versions without a validator is fetched once more", async () => {
    server.etag = undefined;
    server.content = other;
    server.faults.push({ kind: "cut", afterBytes: 100_000 });
    await rejects(fetchUrl({ attemptsMax: 1 }), isCode(Code.unavailable, /./));
    server.content = content;
    deepEqual(readFileSync(await fetchUrl()), Buffer.from(content));
    equal(server.asked.length, 3);
    ok(isResumed(server.asked[1], 100_000), `${server.asked[1]}`);
    equal(server.asked[2], undefined);
  });

  test("with another checksum is refused, deleted, and tried again only when asked", async () => {
    server.content = other;
    await rejects(
      fetchUrl(),
      isCode(
        Code.dataLoss,
        /sha256 [0-9a-f]{64}, found [0-9a-f]{64} in 300000/,
      ),
    );
    deepEqual(cached(), []);
    server.content = content;
    await fetchUrl();
  });

  test("whose server sends another range than asked for begins anew", async () => {
    server.faults.push(
      { kind: "cut", afterBytes: 100_000 },
      { kind: "wrong range" },
    );
    deepEqual(readFileSync(await fetchUrl()), Buffer.from(content));
    equal(server.asked.length, 3);
    ok(isResumed(server.asked[1], 100_000), `${server.asked[1]}`);
    equal(server.asked[2], undefined);
  });

  test("that was complete but not yet checked needs no byte more", async () => {
    server.faults.push({ kind: "cut", afterBytes: content.length - 1 });
    await rejects(fetchUrl({ attemptsMax: 1 }), isCode(Code.unavailable, /./));
    writeFileSync(join(folder, `${checksum}.part`), content);
    deepEqual(readFileSync(await fetchUrl()), Buffer.from(content));
    equal(server.asked.at(-1), "bytes=300000-");
  });

  test("without a length is taken too", async () => {
    server.faults.push({ kind: "chunked" });
    deepEqual(readFileSync(await fetchUrl()), Buffer.from(content));
  });

  test("whose server stands still is asked again, then given up", async () => {
    server.faults.push({ kind: "stall", afterBytes: 100_000 });
    await fetchUrl({ stallMs: 100 });
    unlinkSync(join(folder, `${checksum}.gguf`));
    server.faults.push(
      { kind: "stall", afterBytes: 0 },
      { kind: "stall", afterBytes: 0 },
    );
    await rejects(
      fetchUrl({ stallMs: 50, attemptsMax: 2 }),
      isCode(Code.unavailable, /2 attempts .* nothing came for 50 ms/),
    );
  });

  test("is asked for again after a 503, and not after a 404", async () => {
    server.faults.push({ kind: "status", status: 503 });
    await fetchUrl();
    equal(server.asked.length, 2);
    unlinkSync(join(folder, `${checksum}.gguf`));
    for (
      const [status, code] of [
        [404, Code.notFound],
        [403, Code.permissionDenied],
        [400, Code.failedPrecondition],
      ] as const
    ) {
      server.faults.push({ kind: "status", status });
      await rejects(fetchUrl(), isCode(code, new RegExp(`found ${status}`)));
    }
    equal(server.asked.length, 5);
  });

  test("nobody answers at is given up with the reason", async () => {
    const { url } = server;
    await server[Symbol.asyncDispose]();
    await rejects(
      fetchModel({ url, sha256: checksum }, options({ attemptsMax: 2 })),
      isCode(Code.unavailable, /2 attempts in a row brought nothing/),
    );
  });

  test("that is too large is refused before and while it comes", async () => {
    await rejects(
      fetchUrl({ bytesMax: 1_000 }),
      isCode(Code.failedPrecondition, /at most 1000 bytes .*, found 300000/),
    );
    server.faults.push({ kind: "chunked" });
    await rejects(
      fetchUrl({ bytesMax: 1_000 }),
      isCode(Code.failedPrecondition, /at most 1000 bytes/),
    );
    equal(cached().includes(".gguf"), false);
  });

  test("that does not fit on the disk is refused before and while it comes", async () => {
    await rejects(
      fetchUrl({ freeBytes: () => Promise.resolve(10) }),
      isCode(Code.resourceExhausted, /disk is full: needs 300000 .* 10 are/),
    );
    let pieces = 0;
    const write = async () => {
      await Promise.resolve();
      if (++pieces < 2) return;
      throw Object.assign(new Error("no space left"), { code: "ENOSPC" });
    };
    await rejects(
      fetchUrl({ write }),
      isCode(Code.resourceExhausted, /disk is full: no space left/),
    );
    deepEqual(cached(), []);
  });

  test("ends at once when its load is stopped, and leaves no lock", async () => {
    const stop = new AbortController();
    server.faults.push({ kind: "stall", afterBytes: 1_000 });
    const fetching = fetchUrl({ signal: stop.signal });
    await waitFor(() => shares.length > 0);
    stop.abort(new MeshError(Code.unavailable, "stopped by the test"));
    await rejects(fetching, isCode(Code.unavailable, /stopped by the test/));
    equal(cached().includes(".lock"), false);
  });
});

describe("several processes", () => {
  test("fetch a file once between them", async () => {
    const paths = await Promise.all([fetchUrl(), fetchUrl(), fetchUrl()]);
    equal(new Set(paths).size, 1);
    equal(server.asked.length, 1);
    equal(cached().includes(".lock"), false);
  });

  test("take over from one that died", async () => {
    const lock = join(folder, `${checksum}.lock`);
    writeFileSync(lock, "of a dead one");
    await fetchUrl({ staleMs: 100 });
    deepEqual(cached(), [".gguf", ".ok"]);
  });

  test("wait for one that lives, however old its lock", async () => {
    const lock = join(folder, `${checksum}.lock`);
    writeFileSync(lock, "of a living one");
    const beat = setInterval(() => {
      const now = new Date();
      if (existsSync(lock)) utimesSync(lock, now, now);
    }, 20);
    undo.defer(() => clearInterval(beat));
    const fetching = fetchUrl({ staleMs: 300 });
    const first = await Promise.race([
      fetching,
      new Promise((resolve) => setTimeout(resolve, 900)),
    ]);
    equal(first, undefined);
    equal(server.asked.length, 0);
    unlinkSync(lock);
    await fetching;
  });
});

describe("what lies in the cache", () => {
  test("is read again when it is not what was checked, and replaced when it is broken", async () => {
    const path = await fetchUrl();
    const before = statSync(path);
    truncateSync(path, 1_000);
    await fetchUrl();
    equal(statSync(path).size, before.size);
    equal(server.asked.length, 2);
    // Touched but whole: nothing is fetched.
    utimesSync(path, new Date(1_000), new Date(1_000));
    await fetchUrl();
    equal(server.asked.length, 2);
  });

  test("without its marker is checked and kept", async () => {
    const path = await fetchUrl();
    unlinkSync(path.replace(/gguf$/, "ok"));
    await fetchUrl();
    equal(server.asked.length, 1);
    deepEqual(cached(), [".gguf", ".ok"]);
  });

  test("must be a folder that can be made", async () => {
    writeFileSync(join(folder, "file"), "");
    await rejects(
      fetchUrl({ folder: join(folder, "file", "cache") }),
      isCode(
        Code.failedPrecondition,
        /needs a folder at .*QUETZAL_MODEL_CACHE/,
      ),
    );
  });
});

describe("a path", () => {
  test("is taken as it is without a checksum", async () => {
    equal(await fetchModel({ path: "/any" }, options()), "/any");
  });

  test("is read once with a checksum, and never removed", async () => {
    const path = join(folder, "mine.gguf");
    writeFileSync(path, content);
    equal(await fetchModel({ path, sha256: checksum }, options()), path);
    ok(cached().includes(".path-ok"));
    const wrong = { path, sha256: sha256(other) };
    await rejects(fetchModel(wrong, options()), isCode(Code.dataLoss, /mine/));
    ok(existsSync(path));
    await rejects(
      fetchModel({ path: "/no/file", sha256: checksum }, options()),
      isCode(Code.notFound, /\/no\/file/),
    );
  });
});

test("parseSource() takes what is whole and names the field of what is not", () => {
  deepEqual(parseSource({ path: "/m.gguf" }), { path: "/m.gguf" });
  deepEqual(
    parseSource({ url: "https://h/m", sha256: checksum.toUpperCase() }),
    { url: "https://h/m", sha256: checksum },
  );
  const faults: [Parameters<typeof parseSource>[0], string, RegExp][] = [
    [{}, "source", /is neither/],
    [{ path: "/a", url: "http://h/" }, "source", /is both/],
    [{ url: "http://h/" }, "source.sha256", /is none/],
    [{ url: "file:///etc/passwd", sha256: checksum }, "source.url", /http/],
    [{ url: "nonsense", sha256: checksum }, "source.url", /http/],
    [{ path: "/a", sha256: "12" }, "source.sha256", /64 hex digits, is 12/],
    [{ path: "a\0b" }, "source.path", /path/],
  ];
  for (const [raw, field, message] of faults) {
    throws(() => parseSource(raw), (error: MeshError) => {
      equal(error.field, field);
      ok(message.test(error.message), error.message);
      return true;
    });
  }
});

test("sources are equal by place and checksum, and told without secrets", () => {
  const url = "https://user:secret@host/m.gguf?token=secret";
  ok(isSameSource({ path: "/a" }, { path: "/a" }));
  ok(!isSameSource({ path: "/a" }, { path: "/a", sha256: checksum }));
  ok(!isSameSource({ path: url }, { url, sha256: checksum }));
  equal(sourceText({ url, sha256: checksum }), "https://host/m.gguf");
});
