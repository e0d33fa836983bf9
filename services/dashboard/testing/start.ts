import { createLogger } from "../../../lib/telemetry/mod.ts";
import { tempDir } from "../../../lib/testing/mod.ts";
import { parseConfig } from "../config.ts";
import {
  type Dashboard,
  type DashboardOptions,
  startDashboard,
} from "../dashboard.ts";

export interface TestDashboard extends AsyncDisposable {
  readonly dashboard: Dashboard;
  readonly url: string;
  get(path: string, init?: RequestInit): Promise<Response>;
  json<T>(path: string): Promise<T>;
  /** Sends spans to the HTTP door. */
  send(
    body: Uint8Array | string,
    headers?: Record<string, string>,
  ): Promise<Response>;
}

/** The whole service in this process, on free ports and a folder of its own. */
export async function testDashboard(
  env: Record<string, string> = {},
  options: Partial<DashboardOptions> = {},
): Promise<TestDashboard> {
  await using undo = new AsyncDisposableStack();
  const data = env.QUETZAL_DASHBOARD_DATA ??
    undo.use(await tempDir("dashboard")).path;
  const dashboard = undo.use(
    await startDashboard({
      config: parseConfig({
        QUETZAL_DASHBOARD_PORT: "0",
        QUETZAL_DASHBOARD_DATA: data,
        ...env,
      }),
      logger: createLogger({ service: "dashboard", level: "silent" }),
      settleMs: 0,
      ...options,
    }),
  );
  const url = `http://127.0.0.1:${dashboard.port}`;
  const get = (path: string, init?: RequestInit) =>
    fetch(`${url}${path}`, init);
  const parts = undo.move();
  return {
    dashboard,
    url,
    get,
    json: async (path) => await (await get(path)).json(),
    send: (body, headers = { "content-type": "application/x-protobuf" }) =>
      fetch(`${url}/v1/traces`, {
        method: "POST",
        headers,
        body: body as Uint8Array<ArrayBuffer>,
      }),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}
