/** Headless Chromium for tests: Debian's, with a fresh profile. */
import { existsSync } from "node:fs";
import {
  type Browser,
  type BrowserContext,
  chromium,
  type Page,
} from "playwright-core";

const executablePath = "/usr/bin/chromium";

export interface TestBrowser extends AsyncDisposable {
  readonly browser: Browser;
  /** A page of a fresh context; what it reports as wrong is gathered in `problems`. */
  open(options?: OpenOptions): Promise<OpenedPage>;
}

export interface OpenOptions {
  readonly width?: number;
  readonly height?: number;
  readonly theme?: "light" | "dark";
  /** Pixels per CSS pixel. */
  readonly scale?: number;
}

export interface OpenedPage extends AsyncDisposable {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Exceptions, refused scripts and other errors of the page's console. */
  readonly problems: string[];
}

export async function startBrowser(): Promise<TestBrowser> {
  if (!existsSync(executablePath)) {
    throw new Error(
      `Cannot test the page: needs ${executablePath}, found none ` +
        "(apt-get install -y --no-install-recommends chromium)",
    );
  }
  const browser = await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  return {
    browser,
    open: (options) => openPage(browser, options),
    [Symbol.asyncDispose]: () => browser.close(),
  };
}

async function openPage(
  browser: Browser,
  { width = 1280, height = 860, theme = "light", scale = 1 }: OpenOptions = {},
): Promise<OpenedPage> {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: theme,
    deviceScaleFactor: scale,
    reducedMotion: "reduce",
    locale: "en-US",
  });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("dialog", async (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    await dialog.dismiss();
  });
  page.on("console", (message) => {
    // A refused request is told by the page itself.
    const isNetwork = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isNetwork) problems.push(message.text());
  });
  return {
    page,
    context,
    problems,
    [Symbol.asyncDispose]: () => context.close(),
  };
}
