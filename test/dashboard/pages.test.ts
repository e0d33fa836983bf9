/// <reference lib="dom" />
/** What a live mesh does not show on demand: hostile text, emptiness, errors, drafts. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { afterAll, beforeAll, test, vi } from "vitest";
import { buildWeb } from "../../services/dashboard/web/build.ts";
import { accessibilityFaults } from "./testing/axe.ts";
import { startBrowser, type TestBrowser } from "./testing/browser.ts";
import { type FakeApi, startFakeApi } from "./testing/fake_api.ts";
import {
  makeMesh,
  makeModels,
  makeSession,
  makeSpeculation,
  makeSummary,
  makeTrace,
  traceIdOf,
} from "./testing/fixtures.ts";
import { overflowing } from "./testing/layout.ts";
import { saveScreenshot } from "./testing/screenshots.ts";

// A test takes seconds; a machine that does much else at once may need many times that.
vi.setConfig({ testTimeout: 90_000 });

let chromium: TestBrowser;
let api: FakeApi;
let stack: AsyncDisposableStack;

const usual = (foreign?: string) => {
  const detail = makeTrace({ index: 0, tokens: 140, foreign });
  return {
    traces: Array.from(
      { length: 30 },
      (_, index) => makeSummary({ index, foreign }),
    ),
    details: new Map([[traceIdOf(0), detail]]),
    mesh: makeMesh(foreign),
    models: makeModels(foreign),
    speculation: makeSpeculation(foreign),
  };
};

beforeAll(async () => {
  stack = new AsyncDisposableStack();
  await buildWeb();
  chromium = stack.use(await startBrowser());
  api = stack.use(await startFakeApi(usual()));
});

afterAll(() => stack.disposeAsync());

const views = [
  "/requests?model=quetzal-demo&durationMsMin=1",
  `/traces/${traceIdOf(0)}?span=a4`,
  "/mesh",
  "/models",
  "/speculation",
  "/playground",
];

for (const theme of ["light", "dark"] as const) {
  test(
    `no page has a serious accessibility fault in the ${theme} theme`,
    async () => {
      await using view = await chromium.open({ theme });
      for (const path of views) {
        await view.page.goto(api.url + path);
        await view.page.locator("main .card").first().waitFor();
        deepEqual(await accessibilityFaults(view.page), [], path);
      }
      await view.page.keyboard.press("?");
      await view.page.locator("dialog[open]").waitFor();
      deepEqual(await accessibilityFaults(view.page), [], "the shortcuts");
      deepEqual(view.problems, []);
    },
    60_000,
  );
}

for (const width of [375, 1280]) {
  test(`no page scrolls sideways at ${width} pixels`, async () => {
    await using view = await chromium.open({ width, height: 812 });
    for (const path of views) {
      await view.page.goto(api.url + path);
      await view.page.locator("main .card").first().waitFor();
      deepEqual(await overflowing(view.page), [], path);
    }
    if (width === 375) {
      await view.page.goto(`${api.url}/traces/${traceIdOf(0)}`);
      await view.page.locator(".strip .token").first().waitFor();
      await saveScreenshot(view.page, "phone");
    }
  });
}

const hostile: readonly (readonly [name: string, text: string])[] = [
  [
    "markup",
    `"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>` +
    `<svg onload="window.hacked=1"></svg>javascript:alert(1)`,
  ],
  [
    "right-to-left overrides",
    "safe\u202e\u2067gpj.exe\u202d\u0007\u0000\u2028",
  ],
  ["a huge string", "W".repeat(30_000)],
];

for (const [name, text] of hostile) {
  test(`${name} in every field stays text, in its place`, async () => {
    await using fake = await startFakeApi(usual(text));
    await using view = await chromium.open({ width: 375, height: 812 });
    const paths = [
      ...views.slice(1),
      "/requests",
      `/requests?model=${encodeURIComponent(text.slice(0, 300))}`,
      `/traces/${encodeURIComponent(text.slice(0, 300))}`,
    ];
    for (const path of paths) {
      await view.page.goto(fake.url + path);
      await view.page.locator("main h1, main h2").first().waitFor();
      await view.page.locator(".loading").waitFor({ state: "detached" });
      const state = await view.page.evaluate(() => ({
        hacked: "hacked" in globalThis,
        elements: document.querySelectorAll(
          "main img, main script, main iframe, main [onload], main [onerror]",
        ).length,
        // deno-lint-ignore no-control-regex
        tricks: /[\u202a-\u202e\u2066-\u2069\u0007]/.test(
          document.body.textContent ?? "",
        ),
        length: document.body.textContent?.length ?? 0,
      }));
      deepEqual(
        { ...state, length: state.length < 400_000 },
        { hacked: false, elements: 0, tricks: false, length: true },
        path,
      );
      deepEqual(await overflowing(view.page), [], path);
    }
    deepEqual(view.problems, []);
  });
}

test("markup is shown as it was written", async () => {
  await using fake = await startFakeApi(usual("<b>bold</b>"));
  await using view = await chromium.open();
  await view.page.goto(`${fake.url}/traces/${traceIdOf(0)}?span=a2`);
  await view.page.locator(".strip .token").first().waitFor();
  equal(
    await view.page.locator(".strip .token").first().textContent(),
    "<b>bold</b>",
  );
  match((await view.page.locator("h1").textContent())!, /^<b>bold<\/b>/);
});

test("deep links come back after a reload: theme, filters, span, token, zoom", async () => {
  await using view = await chromium.open();
  const { page } = view;
  await page.goto(
    `${api.url}/traces/${traceIdOf(0)}?span=a2&token=17&zoom=5-60`,
  );
  for (const round of ["first", "again"]) {
    await page.locator(".token[aria-current]").waitFor();
    equal(
      await page.locator(".token[aria-current]").getAttribute("data-i"),
      "17",
      round,
    );
    equal(
      await page.locator("[data-span=a2]").getAttribute("aria-expanded"),
      "true",
    );
    equal(
      await page.getByRole("button", { name: "all", exact: true }).isEnabled(),
      true,
    );
    await page.reload();
  }
  await page.goto(`${api.url}/requests`);
  await page.getByLabel("Model").selectOption("llama-3.2-1b");
  await page.waitForURL(/model=llama-3.2-1b/);
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: /^Theme/ }).click();
  equal(await page.locator("html").getAttribute("data-theme"), "light");
  await page.getByRole("button", { name: /^Theme/ }).click();
  await page.reload();
  equal(await page.locator("html").getAttribute("data-theme"), "dark");
  equal(await page.getByLabel("Model").inputValue(), "llama-3.2-1b");
  const models = page.locator("td[data-label=Model]");
  await models.first().waitFor();
  deepEqual([...new Set(await models.allTextContents())], ["llama-3.2-1b"]);
  await page.goBack();
  match(page.url(), /\/traces\//);
});

test("the keyboard goes everywhere and typing is left alone", async () => {
  await using view = await chromium.open();
  const { page } = view;
  await page.goto(`${api.url}/requests`);
  await page.locator("table.requests").waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("k");
  const focused = await page.evaluate(() =>
    document.activeElement?.getAttribute("data-trace")
  );
  equal(focused, traceIdOf(0));
  await page.keyboard.press("Enter");
  await page.locator(".strip .token").first().waitFor();
  match(page.url(), new RegExp(traceIdOf(0)));

  await page.keyboard.press("s");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await page.waitForURL(/token=1/);
  match(
    (await page.locator(".token-detail").textContent())!,
    /^Token 2 of 140.*plain.*step 1/,
  );
  await page.keyboard.press("End");
  await page.waitForURL(/token=139/);
  await page.keyboard.press("w");
  await page.keyboard.press("Enter");
  await page.waitForURL(/span=a0/);
  const outline = await page.evaluate(() =>
    getComputedStyle(document.activeElement!).outlineStyle
  );
  equal(outline, "solid", "the focus can be seen");

  for (
    const [key, path] of [["m", "/mesh"], ["o", "/models"], [
      "p",
      "/playground",
    ], ["r", "/requests"]]
  ) {
    await page.keyboard.press("g");
    await page.keyboard.press(key);
    await page.waitForURL(new RegExp(`${path}$`));
  }
  await page.locator("table.requests").waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("gmt?");
  equal(await page.getByLabel("Trace id").inputValue(), "gmt?");
  match(page.url(), /\/requests/);
  equal(await page.locator("dialog[open]").count(), 0);
});

test("every view says what to do when there is nothing", async () => {
  await using fake = await startFakeApi();
  await using view = await chromium.open();
  const { page } = view;
  const expected = [
    ["/requests", /No requests in the last 1 hour/],
    ["/requests?range=all", /No requests yet.*task ask/s],
    ["/requests?status=error", /No request matches/],
    ["/mesh", /Nobody is here.*task up/s],
    ["/models", /No model is served.*task up --model/s],
    ["/speculation", /No draft was used.*draft model/s],
    [`/traces/${"0".repeat(32)}`, /Waiting for this trace/],
    ["/traces/nonsense", /Not found/],
    ["/nowhere", /There is no such page/],
  ] as const;
  for (const [path, text] of expected) {
    await page.goto(fake.url + path);
    await page.locator(".notice").first().waitFor();
    match((await page.locator("main").textContent())!, text, path);
  }
  deepEqual(await accessibilityFaults(page), []);
  fake.state.session = makeSession({ playground: false });
  await page.goto(`${fake.url}/playground`);
  await page.getByText("QUETZAL_DASHBOARD_ROUTER_URL").waitFor();
});

test("errors are told in the service's words, and the page recovers", async () => {
  await using fake = await startFakeApi(usual());
  await using view = await chromium.open();
  const { page } = view;
  const message =
    'Cannot read the query: needs a number for durationMsMin, found "x"';
  fake.state.failures.set("/api/traces", { status: 400, message });
  await page.goto(`${fake.url}/requests?durationMsMin=x`);
  await page.getByRole("alert").getByText(message).waitFor();
  fake.state.failures.clear();
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator("table.requests").waitFor();

  fake.state.failures.set("/api/session", { status: 503, message: "Busy" });
  await page.goto(`${fake.url}/mesh`);
  await page.getByRole("alert").waitFor();
  fake.state.failures.clear();
  await page.locator("[data-node]").first().waitFor();
});

test("without a session the page asks for the token", async () => {
  await using fake = await startFakeApi({
    session: makeSession({ authRequired: true, authenticated: false }),
  });
  await using view = await chromium.open();
  const { page } = view;
  await page.goto(`${fake.url}/mesh`);
  await page.getByLabel("Token").waitFor();
  deepEqual(await accessibilityFaults(page), []);
  fake.state.failures.set("/api/session", {
    status: 401,
    message: "Cannot log in: the token is another one",
  });
  await page.getByLabel("Token").fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("the token is another one").waitFor();
  fake.state.failures.clear();
  fake.state.session = makeSession({ authRequired: true });
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Mesh" }).waitFor();
});

test("drafted tokens are told apart from plain ones", async () => {
  await using view = await chromium.open();
  const { page } = view;
  await page.goto(`${api.url}/traces/${traceIdOf(0)}`);
  await page.locator(".strip .token").first().waitFor();
  const { tokens } = makeTrace({ index: 0, tokens: 140 });
  for (const [index, name] of tokens!.provenanceNames.entries()) {
    const count = tokens!.provenance.filter((one) => one === index).length;
    ok(count > 0);
    equal(await page.locator(`.strip .token.${name}`).count(), count, name);
  }
  await page.goto(`${api.url}/speculation`);
  const positions = page.locator(".positions li");
  await positions.first().waitFor();
  deepEqual(
    await positions.locator(".number:nth-child(3)").allTextContents(),
    ["82 %", "69 %", "54 %", "44 %"],
  );
  match((await page.locator("main").textContent())!, /1\.71 ×/);
  await saveScreenshot(page, "speculation");
});

test("a lost service is said, and its return too", async () => {
  const fake = await startFakeApi(usual());
  await using view = await chromium.open();
  await view.page.goto(`${fake.url}/mesh`);
  await view.page.getByText("live", { exact: true }).waitFor();
  await fake[Symbol.asyncDispose]();
  await view.page.getByText("offline", { exact: true }).waitFor();
});
