import type { SeedObject } from "./seed_object.ts";

export interface ApiAnswer {
  readonly status: number;
  readonly body: string;
}

/** Sends one request; throws when nobody answers. */
export type Api = {
  readonly namespace: string;
  request(
    method: "GET" | "POST",
    path: string,
    yaml?: string,
  ): Promise<ApiAnswer>;
};

/** Tries until the API has an answer that stays: created, there already, or refused. */
export async function createOnce(
  object: SeedObject,
  { api, wait, triesMax = 240 }: {
    api: Api;
    wait: () => Promise<unknown>;
    triesMax?: number;
  },
): Promise<"created" | "was there"> {
  let last = "";
  for (let tries = 0; tries < triesMax; tries++) {
    if (tries > 0) await wait();
    const found = await tryCreate(object, api);
    if (found.kind !== "later") return found.kind;
    last = found.reason;
  }
  throw new Error(
    `Cannot create ${object.kind} of ${object.name}: ${last}`,
  );
}

type Outcome =
  | { readonly kind: "created" | "was there" }
  | { readonly kind: "later"; readonly reason: string };

async function tryCreate(object: SeedObject, api: Api): Promise<Outcome> {
  try {
    const plural = await pluralOf(object, api);
    if (plural === undefined) {
      return {
        kind: "later",
        reason: `the API does not know ${object.apiVersion} ${object.kind}`,
      };
    }
    const path =
      `/apis/${object.apiVersion}/namespaces/${api.namespace}/${plural}`;
    const { status, body } = await api.request("POST", path, object.yaml);
    if (status === 201) return { kind: "created" };
    if (status === 409) return { kind: "was there" };
    const reason = `the API answers ${status}: ${messageOf(body)}`;
    // An object that is refused today is refused tomorrow.
    if (status === 422 || status === 400) throw new RefusedError(reason);
    return { kind: "later", reason };
  } catch (error) {
    if (error instanceof RefusedError) {
      throw new Error(
        `Cannot create ${object.kind} of ${object.name}: ${error.message}`,
      );
    }
    return { kind: "later", reason: (error as Error).message };
  }
}

class RefusedError extends Error {}

/** `models` for Model; `undefined` while the API does not serve the kind. */
async function pluralOf(
  { apiVersion, kind }: SeedObject,
  api: Api,
): Promise<string | undefined> {
  const { status, body } = await api.request("GET", `/apis/${apiVersion}`);
  if (status !== 200) return undefined;
  const { resources } = JSON.parse(body) as {
    resources: readonly { kind: string; name: string }[];
  };
  return resources.find((resource) =>
    resource.kind === kind && !resource.name.includes("/")
  )?.name;
}

function messageOf(body: string): string {
  try {
    return (JSON.parse(body) as { message?: string }).message ?? body;
  } catch {
    // Not the API's own words: a proxy's, perhaps.
    return body.slice(0, 200);
  }
}
