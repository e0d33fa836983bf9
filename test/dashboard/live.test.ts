/// <reference lib="dom" />
/** Every page on a real mesh, in a real browser. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { afterAll, beforeAll, test, vi } from "vitest";
import type {
  TraceDetail,
  TraceList,
} from "../../services/dashboard/api_types.ts";
import { buildWeb } from "../../services/dashboard/web/build.ts";
import { formatMs } from "../../services/dashboard/web/src/format.ts";
import { ask, eventually } from "../mesh/ask.ts";
import { type Mesh, startMesh } from "../mesh/start_mesh.ts";
import { accessibilityFaults } from "./testing/axe.ts";
import {
  type OpenedPage,
  startBrowser,
  type TestBrowser,
} from "./testing/browser.ts";
import { saveScreenshot, takesScreenshots } from "./testing/screenshots.ts";

// A test takes seconds; a machine that does much else at once may need many times that.
vi.setConfig({ testTimeout: 90_000 });

let mesh: Mesh;
let chromium: TestBrowser;
let opened: OpenedPage;
let stack: AsyncDisposableStack;

/** Long enough for a remote prefill. */
const longPrompt = "Explain the KV cache to me, please, slowly. ".repeat(12);

beforeAll(async () => {
  stack = new AsyncDisposableStack();
  await buildWeb();
  [mesh, chromium] = await Promise.all([
    startMesh({
      decode: 2,
      dashboard: true,
      env: { QUETZAL_CAPTURE_CONTENT: "true" },
    }).then((started) => stack.use(started)),
    startBrowser().then((started) => stack.use(started)),
  ]);
  opened = stack.use(await chromium.open());
  await ask(mesh, { content: longPrompt, max_tokens: 40, ignore_eos: true });
  await ask(mesh, { content: "What is a token?", max_tokens: 12 });
}, 90_000);

afterAll(() => stack.disposeAsync());

const address = (path: string) => `${mesh.dashboardUrl}${path}`;

async function api<T>(path: string): Promise<T> {
  return await (await fetch(address(path))).json();
}

/** The trace of the long prompt, as soon as its spans have arrived. */
function longTrace(): Promise<TraceDetail> {
  return eventually(async () => {
    const { traces } = await api<TraceList>(
      "/api/traces?promptTokensMin=100&order=oldest",
    );
    const found = traces.find((trace) => !trace.open);
    if (!found) return undefined;
    const detail = await api<TraceDetail>(`/api/traces/${found.traceId}`);
    return detail.tokens && detail.transfers.length > 0 ? detail : undefined;
  });
}

test("the requests appear, are filtered, and the filter survives a reload", async () => {
  const { page } = opened;
  const { summary } = await longTrace();
  await page.goto(address("/"));
  const rows = page.locator("table.requests tbody tr");
  await rows.nth(1).waitFor();
  const shown = await page.locator("[data-trace]").evaluateAll((links) =>
    links.map((link) => link.getAttribute("data-trace"))
  );
  const { traces } = await api<TraceList>("/api/traces");
  deepEqual(shown, traces.map((trace) => trace.traceId));

  await page.getByText("Duration, tokens, worker").click();
  await page.getByLabel("Output tokens, at least").fill("40");
  await page.waitForURL(/outputTokensMin=40/);
  await page.waitForFunction(() =>
    document.querySelectorAll("[data-trace]").length === 1
  );
  await page.reload();
  await rows.first().waitFor();
  equal(await rows.count(), 1);
  equal(
    await page.locator("[data-trace]").getAttribute("data-trace"),
    summary.traceId,
  );

  await page.getByRole("button", { name: "Clear filters" }).click();
  await page.getByLabel("Trace id").fill(summary.traceId.slice(0, 12));
  await page.waitForURL(/traceId=/);
  await page.waitForFunction(() =>
    document.querySelectorAll("[data-trace]").length === 1
  );
  await page.getByLabel("Result").selectOption("error");
  await page.getByRole("heading", { name: "No request matches" }).waitFor();
  deepEqual(opened.problems, []);
});

test("a new request appears without a reload", async () => {
  const { page } = opened;
  await page.goto(address("/requests"));
  await page.locator("table.requests").waitFor();
  const before = await page.locator("[data-trace]").count();
  await ask(mesh, { content: "Say something new.", max_tokens: 5 });
  await page.waitForFunction(
    (count) => document.querySelectorAll("[data-trace]").length > count,
    before,
  );
  if (takesScreenshots) await someTraffic();
  await saveScreenshot(page, "requests");
});

test("the waterfall says what the spans say", async () => {
  const { page } = opened;
  const detail = await longTrace();
  await page.goto(address(`/traces/${detail.summary.traceId}`));
  await page.locator(".span-row").first().waitFor();
  const rows = await readRows(opened);
  const totalMs = Math.max(
    ...detail.spans.map((span) =>
      span.startAtMs + span.durationMs - detail.summary.startAtMs
    ),
    detail.summary.durationMs,
  );
  ok(detail.spans.length >= 6, `found ${detail.spans.length} spans`);
  for (const span of detail.spans) {
    const row = rows.find(({ key }) => key === span.spanId);
    ok(row, `no row for ${span.name}`);
    ok(
      row.label.includes(formatMs(span.durationMs)),
      `${row.label} does not say ${formatMs(span.durationMs)}`,
    );
    const startShare = (span.startAtMs - detail.summary.startAtMs) / totalMs;
    near(row.left, startShare, `start of ${span.name}`);
    near(
      row.right,
      startShare + span.durationMs / totalMs,
      `end of ${span.name}`,
    );
  }
  for (const phase of detail.phases) {
    const shown = await page.locator(`[data-phase="${phase.name}"]`)
      .allTextContents();
    ok(shown.includes(formatMs(phase.durationMs)), `${phase.name}: ${shown}`);
  }
  equal(
    await page.locator("[data-stat=duration]").textContent(),
    formatMs(detail.summary.durationMs),
  );
  deepEqual(opened.problems, []);
});

test("routes, KV transfer and every token are shown", async () => {
  const { page } = opened;
  const detail = await longTrace();
  await page.goto(address(`/traces/${detail.summary.traceId}`));
  await page.locator(".strip .token").first().waitFor();

  const scores = await page.locator("[data-score]").evaluateAll((cells) =>
    cells.map((cell) => Number(cell.getAttribute("data-score")))
  );
  const expected = detail.routes.flatMap((route) => route.candidates);
  ok(expected.length >= 3, "two decode workers and one prefill worker");
  deepEqual(scores.sort(), expected.map(({ score }) => score).sort());
  const transfer = await page.getByRole("region", { name: "KV transfer" })
    .textContent();
  match(transfer!, /[\d.]+ [KM]iB/);
  match(transfer!, /iB\/s/);
  match(transfer!, new RegExp(`Blocks${detail.transfers[0].blocks}`));

  const { tokens } = detail;
  const strip = page.locator(".strip .token");
  equal(await strip.count(), detail.summary.outputTokens);
  const texts = await strip.evaluateAll((all) =>
    all.map((token) => token.textContent)
  );
  equal(
    texts.join("").replaceAll("⏎", "\n").replaceAll("·", ""),
    tokens!.texts!.join(""),
  );
  equal(
    await page.locator("[data-provenance=plain]").getAttribute("data-count"),
    String(tokens!.count),
  );
  await strip.nth(3).click();
  const described = await page.locator(".token-detail").textContent();
  match(described!, /^Token 4 of 40/);
  ok(described!.includes(formatMs(tokens!.latencyMs[3])), described!);
  await page.waitForURL(/token=3/);
  await page.reload();
  await page.locator(".token[aria-current]").waitFor();
  await saveScreenshot(page, "trace", { height: 1_020 });
});

test("the playground streams an answer and its trace builds up", async () => {
  const { page } = opened;
  await page.goto(address("/playground"));
  await page.getByLabel("Prompt", { exact: true }).fill(
    "What is the KV cache?",
  );
  await page.keyboard.press("Control+Enter");
  await page.waitForURL(/trace=[0-9a-f]{32}/);
  await page.locator(".card .badge", { hasText: /stop|length/ }).waitFor();
  const answer = await page.locator(".answer").textContent();
  ok(answer!.length > 20, answer!);
  await page.locator(".span-row").nth(4).waitFor();
  await page.locator(".strip .token").first().waitFor();
  const traceId = new URL(page.url()).searchParams.get("trace");
  const detail = await eventually(async () => {
    const found = await api<TraceDetail>(`/api/traces/${traceId}`);
    return found.content?.output ? found : undefined;
  });
  equal(detail.content!.output!.trim(), answer!.trim());
  await saveScreenshot(page, "playground");
  deepEqual(opened.problems, []);
});

test("the mesh page shows a worker die and return", async () => {
  const { page } = opened;
  await page.goto(address("/mesh"));
  const node = page.locator("[data-node=decode-1]");
  await node.getByText("ready").waitFor();
  equal(await page.locator("[data-node]").count(), 5);
  await page.locator("path.edge.decode").first().waitFor({ state: "attached" });
  await saveScreenshot(page, "mesh");

  const worker = mesh.process("decode-1");
  await worker.kill("SIGKILL");
  await node.getByText("gone", { exact: true }).waitFor({ timeout: 20_000 });
  await page.locator("[data-kind=worker_left]").waitFor();
  worker.start();
  await node.getByText("ready").waitFor({ timeout: 20_000 });
  deepEqual(opened.problems, []);
});

test("the models page shows the running model with its traffic", async () => {
  const { page } = opened;
  await page.goto(address("/models"));
  const card = page.locator("[data-model=quetzal-demo]");
  await card.getByText("running", { exact: true }).waitFor();
  match((await card.textContent())!, /\d+ in 120 s/);
  await saveScreenshot(page, "models");
});

test("the speculation page says that no draft was used", async () => {
  const { page } = opened;
  await page.goto(address("/speculation"));
  await page.getByRole("heading", { name: "No draft was used" }).waitFor();
  match((await page.locator(".notice").textContent())!, /tokens of this time/);
});

test("a live trace is accessible in both themes", async () => {
  const { summary } = await longTrace();
  for (const theme of ["light", "dark"] as const) {
    await using view = await chromium.open({ theme });
    await view.page.goto(address(`/traces/${summary.traceId}`));
    await view.page.locator(".strip .token").first().waitFor();
    deepEqual(await accessibilityFaults(view.page), [], theme);
    if (theme === "dark") {
      await saveScreenshot(view.page, "trace-dark", { height: 1_020 });
    }
  }
});

/** So that a picture shows more than three requests. */
async function someTraffic(): Promise<void> {
  for (let i = 0; i < 24; i++) {
    const content = i % 3 === 0 ? `${i}: ${longPrompt}` : `What is ${i}?`;
    const question = { content, max_tokens: 4 + i * 11 % 60, ignore_eos: true };
    await Promise.all([
      ask(mesh, question),
      i % 5 === 0 ? ask(mesh, { content, max_tokens: 9 }) : undefined,
    ]);
  }
  await opened.page.waitForTimeout(2_500);
}

/** Rows with the place of their bars as shares of the track. */
async function readRows({ page }: OpenedPage) {
  return await page.locator(".span-row").evaluateAll((rows) =>
    rows.map((row) => {
      const track = row.querySelector(".span-track")!.getBoundingClientRect();
      const bar = row.querySelector(".bar")?.getBoundingClientRect();
      return {
        key: row.getAttribute("data-span"),
        label: row.textContent ?? "",
        left: bar ? (bar.left - track.left) / track.width : 0,
        right: bar ? (bar.right - track.left) / track.width : 0,
      };
    })
  );
}

/** Two pixels of the track: bars have a least width. */
function near(found: number, expected: number, what: string): void {
  const wanted = Math.min(1, Math.max(0, expected));
  ok(
    Math.abs(found - wanted) < 0.005,
    `${what}: drawn at ${found}, expected ${wanted}`,
  );
}
