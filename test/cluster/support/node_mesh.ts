/** A whole mesh in pods, installed as users install it. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { buildImages } from "../../../infra/images/mod.ts";
import {
  type NodeCluster,
  startNodeCluster,
} from "../../../infra/cluster/mod.ts";
import { type Answer, answer } from "../../../infra/local/answer.ts";
import { tempDir } from "../../../lib/testing/mod.ts";

export const root = new URL("../../../", import.meta.url).pathname;
const namespace = "quetzal";

export interface NodeMesh extends AsyncDisposable {
  readonly cluster: NodeCluster;
  /** kubectl in the mesh's namespace. */
  kubectl(...args: string[]): Promise<string>;
  /** One field of an object: `field("deployment/x", "{.spec.replicas}")`; empty when absent. */
  field(object: string, path: string): Promise<string>;
  /** One gRPC request through the router's Service. */
  ask(options: AskOptions): Promise<Answer>;
  /** Everything that helps to understand a failed test. */
  describe(): Promise<string>;
}

export interface AskOptions {
  readonly model: string;
  readonly prompt: string;
  readonly maxTokens: number;
  readonly onText?: (text: string) => void;
  readonly signal?: AbortSignal;
}

/** A node with our images and nothing installed. */
export async function startNodeMesh(): Promise<NodeMesh> {
  await using open = new AsyncDisposableStack();
  const dir = open.use(await tempDir("node"));
  const built = await buildImages({
    root,
    names: ["demo", "autoscaler", "nats"],
    outFolder: join(dir.path, "images"),
    tag: "dev",
  });
  const cluster = open.use(
    await startNodeCluster({
      folder: join(dir.path, "k8s"),
      images: built.map(({ file }) => file),
    }),
  );
  const kubectl = (...args: string[]) =>
    cluster.kubectl(["--namespace", namespace, ...args]);
  const field = (object: string, path: string) =>
    kubectl("get", object, "--ignore-not-found", "-o", `jsonpath=${path}`);
  let address = "";
  const kept = open.move();
  return {
    cluster,
    kubectl,
    field,
    async ask({ model, prompt, maxTokens, onText = () => {}, signal }) {
      address ||= await field("service/quetzal-router", "{.spec.clusterIP}");
      const config = {
        prompt,
        model,
        maxTokens,
        temperature: 0,
        seed: undefined,
        raw: true,
        json: true,
        grpc: `${address}:50051`,
      };
      return await answer(config, {
        onText,
        signal: signal ?? AbortSignal.timeout(240_000),
      });
    },
    async describe() {
      const parts = await Promise.allSettled([
        kubectl("get", "pods,models,workerpools,deployments", "-o", "wide"),
        kubectl("get", "events", "--sort-by=.lastTimestamp"),
        kubectl("logs", "deployment/quetzal-autoscaler", "--tail=20"),
        kubectl("logs", "deployment/quetzal-router", "--tail=20"),
      ]);
      return parts.map((part) =>
        part.status === "fulfilled" ? part.value : `${part.reason}`
      ).join("\n");
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Processes of this machine that belong to a pod. */
export function processesOf(podUid: string): number[] {
  return pids().filter((pid) => {
    try {
      // The runtime writes the pod's id into the names of control groups.
      return readFileSync(`/proc/${pid}/cgroup`, "utf8").includes(podUid) &&
        readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("main.ts");
    } catch {
      // It ended between the two looks.
      return false;
    }
  });
}

function pids(): number[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
}
