import { readFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import type { Api, ApiAnswer } from "./create_once.ts";

const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";
const patienceMs = 10_000;

/** The API server as a pod reaches it, with the credentials of its service account. */
export function createApi(
  env: Readonly<Record<string, string | undefined>>,
): Api {
  const host = env.KUBERNETES_SERVICE_HOST;
  const port = env.KUBERNETES_SERVICE_PORT;
  if (!host || !port) {
    throw new Error(
      "Cannot reach Kubernetes: needs KUBERNETES_SERVICE_HOST and " +
        "KUBERNETES_SERVICE_PORT, which every pod has",
    );
  }
  const read = (name: string) =>
    readFileSync(join(accountFolder, name), "utf8");
  const ca = read("ca.crt");
  return {
    namespace: read("namespace").trim(),
    request: (method, path, yaml) =>
      new Promise<ApiAnswer>((resolve, reject) => {
        const outgoing = request({
          host,
          port,
          method,
          path,
          ca,
          timeout: patienceMs,
          headers: {
            authorization: `Bearer ${read("token").trim()}`,
            accept: "application/json",
            ...(yaml === undefined
              ? {}
              : { "content-type": "application/yaml" }),
          },
        }, (response) => {
          let text = "";
          response.setEncoding("utf8");
          response.on("data", (part) => text += part);
          response.on("error", reject);
          response.on(
            "end",
            () => resolve({ status: response.statusCode ?? 0, body: text }),
          );
        });
        outgoing.on("error", reject);
        outgoing.on(
          "timeout",
          () => outgoing.destroy(new Error("the API does not answer")),
        );
        outgoing.end(yaml);
      }),
  };
}
