import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import {
  type Cluster,
  startControlCluster,
} from "../../../infra/cluster/mod.ts";
import { tempDir } from "../../../lib/testing/mod.ts";
import {
  createKubeClient,
  type KubeClient,
  type KubeObject,
} from "../../../services/autoscaler/kube/mod.ts";

export const root = new URL("../../../", import.meta.url).pathname;
export const namespace = "quetzal";

export interface TestCluster extends AsyncDisposable {
  readonly cluster: Cluster;
  /** The administrator's. */
  readonly client: KubeClient;
  /** A kubeconfig of the controller's own service account. */
  readonly controllerKubeconfig: string;
  readonly folder: string;
  apply(...objects: readonly KubeObject[]): Promise<void>;
  /** `get("deployments", "cpu-workers")`; `undefined` when it is not there. */
  get<T extends KubeObject = KubeObject>(
    resource: string,
    name: string,
  ): Promise<T | undefined>;
  remove(resource: string, name: string): Promise<void>;
}

/** A real API server with our CRDs, our namespace and the controller's permissions. */
export async function startTestCluster(
  options: { readonly apiFlags?: readonly string[] } = {},
): Promise<TestCluster> {
  await using open = new AsyncDisposableStack();
  const dir = open.use(await tempDir("cluster"));
  const cluster = open.use(
    await startControlCluster({ folder: join(dir.path, "k8s"), ...options }),
  );
  const { kubectl } = cluster;
  await kubectl(["create", "namespace", namespace]);
  await kubectl(["apply", "-k", join(root, "k8s/crds")]);
  await kubectl(["apply", "-n", namespace, "-k", join(root, "k8s/base/rbac")]);
  await kubectl([
    "wait",
    "--for=condition=Established",
    "crd/models.quetzal.dev",
    "crd/workerpools.quetzal.dev",
    "crd/quantizationjobs.quetzal.dev",
  ]);
  const client = open.use(await clientOf(cluster.kubeconfig));
  const controllerKubeconfig = await kubeconfigOfAccount({
    cluster,
    client,
    folder: dir.path,
    account: "quetzal-autoscaler",
  });
  const kept = open.move();
  return {
    cluster,
    client,
    controllerKubeconfig,
    folder: dir.path,
    async apply(...objects) {
      const input = JSON.stringify({
        apiVersion: "v1",
        kind: "List",
        items: objects,
      });
      await kubectl(["apply", "-n", namespace, "-f", "-"], { input });
    },
    async get<T extends KubeObject>(resource: string, name: string) {
      const text = await kubectl([
        "get",
        "-n",
        namespace,
        resource,
        name,
        "-o",
        "json",
        "--ignore-not-found",
      ]);
      return text === "" ? undefined : JSON.parse(text) as T;
    },
    async remove(resource, name) {
      await kubectl([
        "delete",
        "-n",
        namespace,
        resource,
        name,
        "--wait=false",
      ]);
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

export async function clientOf(kubeconfig: string): Promise<KubeClient> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  return await createKubeClient({ config, userAgent: "quetzal-test" });
}

/** A token that the API server issues for a service account, in a kubeconfig. */
export async function kubeconfigOfAccount(
  { cluster, client, folder, account }: {
    readonly cluster: Cluster;
    readonly client: KubeClient;
    readonly folder: string;
    readonly account: string;
  },
): Promise<string> {
  const answer = await client.call<{ status: { token: string } }>({
    method: "POST",
    path: `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`,
    body: {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: { expirationSeconds: 36_000 },
    },
  });
  const admin = new KubeConfig();
  admin.loadFromString(readFileSync(cluster.kubeconfig, "utf8"));
  const own = new KubeConfig();
  own.loadFromOptions({
    clusters: admin.clusters,
    users: [{ name: account, token: answer.status.token }],
    contexts: [{
      name: account,
      cluster: admin.getCurrentCluster()!.name,
      user: account,
    }],
    currentContext: account,
  });
  const file = join(folder, `${account}.kubeconfig`);
  writeFileSync(file, own.exportConfig(), { mode: 0o600 });
  return file;
}

export function model(
  name: string,
  spec: Readonly<Record<string, unknown>> = {},
): KubeObject {
  return {
    apiVersion: "quetzal.dev/v1alpha1",
    kind: "Model",
    metadata: { name },
    spec: { source: { path: `/models/${name}.gguf` }, pool: "cpu", ...spec },
  };
}

export function pool(
  name: string,
  spec: Readonly<Record<string, unknown>> = {},
): KubeObject {
  return {
    apiVersion: "quetzal.dev/v1alpha1",
    kind: "WorkerPool",
    metadata: { name },
    spec,
  };
}

interface StatusObject extends KubeObject {
  readonly status?: {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason: string;
      readonly message: string;
    }[];
    readonly [field: string]: unknown;
  };
}

export type { StatusObject };

export function conditionOf(object: StatusObject | undefined, type: string) {
  return object?.status?.conditions?.find((each) => each.type === type);
}
