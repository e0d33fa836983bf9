import type { ApiError } from "../api_types.ts";
import { dataFolderOf } from "../../../infra/local/data_folder.ts";
import { readRunning } from "../../../infra/local/running.ts";
import { denoTask, UserError } from "../../../infra/terminal/mod.ts";

type Env = Readonly<Record<string, string | undefined>>;

export interface DashboardPlace {
  readonly url: string;
  readonly token: string | undefined;
}

/** The dashboard that a command talks to: named, or that of the mesh that is up here. */
export function findDashboard(
  { url, env, root }: { url: string | undefined; env: Env; root: string },
): DashboardPlace {
  const named = url ?? (env.QUETZAL_DASHBOARD_URL || undefined);
  const found = named ?? readRunning(dataFolderOf({ env, root }))?.dashboard;
  if (found === undefined) {
    throw new UserError(
      "Cannot ask the dashboard: needs a mesh that is up with one, found none",
      {
        hints: [
          `Start one: ${denoTask} up`,
          "or name another: --dashboard http://HOST:PORT or QUETZAL_DASHBOARD_URL",
        ],
      },
    );
  }
  if (!URL.canParse(found) || !/^https?:$/.test(new URL(found).protocol)) {
    throw new UserError(
      `Cannot ask the dashboard: needs an http URL, found "${found}"`,
      { exitCode: 2 },
    );
  }
  return { url: found, token: env.QUETZAL_DASHBOARD_TOKEN || undefined };
}

/** GET of one path of the API. */
export async function askDashboard<T>(
  { url, token }: DashboardPlace,
  path: string,
): Promise<T> {
  const response = await fetch(new URL(path, url), {
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(15_000),
  }).catch((cause: Error) => {
    throw new UserError(
      `Cannot ask the dashboard: needs an answer of ${url}, found ${cause.message}`,
      { cause },
    );
  });
  const body = await response.json().catch(() => undefined);
  if (response.ok && body !== undefined) return body as T;
  const { message } = (body as ApiError | undefined)?.error ??
    { message: `Cannot ask the dashboard: found HTTP ${response.status}` };
  throw new UserError(
    message,
    response.status === 401
      ? { hints: ["Set QUETZAL_DASHBOARD_TOKEN"] }
      : undefined,
  );
}
