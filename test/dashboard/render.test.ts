/// <reference lib="dom" />
/** The page's figures: a trace of 2,000 tokens within 300 ms, a page of 250 KB at most. */
import { equal, ok } from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { test, vi } from "vitest";
import { buildWeb, webFolder } from "../../services/dashboard/web/build.ts";
import { startBrowser } from "./testing/browser.ts";
import { startFakeApi } from "./testing/fake_api.ts";
import { makeTrace, traceIdOf } from "./testing/fixtures.ts";

// A test takes seconds; a machine that does much else at once may need many times that.
vi.setConfig({ testTimeout: 90_000 });

const tokenCount = 2_000;
const renderMsMax = 300;
const compressedBytesMax = 80 * 1_024;

test("the page is small and fetches nothing from elsewhere", async () => {
  const { compressedBytes } = await buildWeb();
  ok(compressedBytes < compressedBytesMax, `${compressedBytes} bytes`);
  const files = readdirSync(webFolder, { recursive: true }).map(String)
    .filter((name) => /\.(html|css|js)$/.test(name));
  equal(files.length, 4);
  for (const name of files) {
    const text = readFileSync(join(webFolder, name), "utf8");
    const foreign = text.match(/https?:\/\/[\w.-]+/g)?.filter((url) =>
      !url.startsWith("http://www.w3.org") && !url.includes("127.0.0.1")
    );
    equal(foreign?.join() ?? "", "", name);
  }
});

test("a second build has nothing to do", async () => {
  const first = await buildWeb();
  const again = await buildWeb();
  equal(again.compressedBytes, first.compressedBytes);
  ok(again.ms < 100, `${again.ms} ms`);
});

test("nothing in the sources writes markup", () => {
  const folder = join(webFolder, "../src");
  for (const name of readdirSync(folder, { recursive: true }).map(String)) {
    if (!/\.tsx?$/.test(name)) continue;
    const text = readFileSync(join(folder, name), "utf8");
    ok(
      !/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(/i
        .test(text),
      name,
    );
  }
});

test(`a trace of ${tokenCount} tokens renders within ${renderMsMax} ms`, async () => {
  await using api = await startFakeApi({
    details: new Map([[
      traceIdOf(0),
      makeTrace({ index: 0, tokens: tokenCount }),
    ]]),
  });
  await using chromium = await startBrowser();
  await using view = await chromium.open();
  const { page, context } = view;
  const devtools = await context.newCDPSession(page);
  // What the page's thread computes, whatever else the machine does meanwhile.
  await devtools.send("Performance.enable", { timeDomain: "threadTicks" });
  const computedMs = async () => {
    const { metrics } = await devtools.send("Performance.getMetrics");
    return metrics.find(({ name }) => name === "TaskDuration")!.value * 1_000;
  };
  let bestMs = Infinity;
  // Whatever shares the machine can only slow it down, so the best of some counts.
  for (let attempt = 0; attempt < 5 && bestMs > renderMsMax; attempt++) {
    await page.goto(`${api.url}/models`);
    await page.locator(".notice").waitFor();
    const before = await computedMs();
    await page.evaluate((path) => {
      history.pushState(null, "", path);
      dispatchEvent(new PopStateEvent("popstate"));
    }, `/traces/${traceIdOf(0)}`);
    const wallMs = await renderMs(page);
    const tookMs = await computedMs() - before;
    console.log(
      `${tokenCount} tokens: ${tookMs.toFixed(0)} ms computed, ` +
        `${wallMs.toFixed(0)} ms until painted`,
    );
    bestMs = Math.min(bestMs, tookMs);
  }
  ok(bestMs > 5 && bestMs <= renderMsMax, `${bestMs} ms`);
});

test("all tokens of a long trace can be scrolled to and selected", async () => {
  await using api = await startFakeApi({
    details: new Map([[
      traceIdOf(0),
      makeTrace({ index: 0, tokens: tokenCount }),
    ]]),
  });
  await using chromium = await startBrowser();
  await using view = await chromium.open();
  const { page } = view;
  await page.goto(`${api.url}/traces/${traceIdOf(0)}?token=1234`);
  await page.locator(".token[aria-current][data-i='1234']").waitFor();
  await page.locator(".strip").focus();
  await page.keyboard.press("End");
  await page.locator(".token[aria-current][data-i='1999']").waitFor();
  for (let i = 0; await page.locator(".strip .later").count() > 0; i++) {
    ok(i < 40, "groups stay away however far one scrolls");
    await page.evaluate(() =>
      document.querySelector(".strip .later")?.scrollIntoView()
    );
    await page.waitForTimeout(30);
  }
  equal(await page.locator(".strip .token").count(), tokenCount);
});

/** From the arrival of the data to the frame that shows it. */
async function renderMs(page: Page): Promise<number> {
  await page.waitForFunction(() =>
    performance.getEntriesByName("quetzal:trace-render").length > 0
  );
  return await page.evaluate(() =>
    performance.getEntriesByName("quetzal:trace-render")[0].duration
  );
}
