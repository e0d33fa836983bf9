import { connectBus, type MeshBus } from "../../../lib/bus/mod.ts";
import {
  type NatsServer,
  startNats,
  waitFor,
} from "../../../lib/testing/mod.ts";
import {
  type ControllerOptions,
  type ControllerProcess,
  startController,
} from "./controller_process.ts";
import type { FakeWorkerOptions } from "./fake_worker.ts";
import { FakeRouter } from "./fake_router.ts";
import { PlayedNode } from "./played_node.ts";
import {
  startTestCluster,
  type StatusObject,
  type TestCluster,
} from "./test_cluster.ts";

/** A cluster, NATS, the controller as a process, and a node and a router that are played. */
export interface Installation extends AsyncDisposable {
  readonly kube: TestCluster;
  readonly nats: NatsServer;
  readonly bus: MeshBus;
  readonly node: PlayedNode;
  readonly router: FakeRouter;
  readonly controller: ControllerProcess;
  startAnother(
    options?: Partial<ControllerOptions>,
  ): Promise<ControllerProcess>;
  /** Waits until the object is as `probe` wants it, and answers with it. */
  until<T extends StatusObject = StatusObject>(
    resource: string,
    name: string,
    probe: (object: T) => unknown,
    timeoutMs?: number,
  ): Promise<T>;
  gone(resource: string, name: string, timeoutMs?: number): Promise<void>;
}

export async function install(
  { worker, env, apiFlags }: {
    readonly worker?: Partial<FakeWorkerOptions>;
    readonly env?: Readonly<Record<string, string>>;
    readonly apiFlags?: readonly string[];
  } = {},
): Promise<Installation> {
  await using open = new AsyncDisposableStack();
  const kube = open.use(await startTestCluster({ apiFlags }));
  const nats = open.use(await startNats());
  const bus = open.use(await connectBus({ url: nats.url, name: "test" }));
  const node = open.use(
    await PlayedNode.start({ client: kube.client, bus, worker }),
  );
  const router = open.use(new FakeRouter(bus));
  const startAnother = async (options: Partial<ControllerOptions> = {}) =>
    open.use(
      await startController({
        kubeconfig: kube.controllerKubeconfig,
        natsUrl: nats.url,
        env,
        ...options,
      }),
    );
  const controller = await startAnother();
  await controller.leads();
  await waitFor(() => controller.log.includes('"sight":"clear"'), {
    what: "the controller to hear the mesh",
    timeoutMs: 20_000,
  });
  const kept = open.move();
  return {
    kube,
    nats,
    bus,
    node,
    router,
    controller,
    async startAnother(options) {
      return kept.use(
        await startController({
          kubeconfig: kube.controllerKubeconfig,
          natsUrl: nats.url,
          env,
          ...options,
        }),
      );
    },
    async until<T extends StatusObject>(
      resource: string,
      name: string,
      probe: (object: T) => unknown,
      timeoutMs = 20_000,
    ) {
      let last: T | undefined;
      try {
        return await waitFor(async () => {
          last = await kube.get<T>(resource, name);
          return last && probe(last) ? last : undefined;
        }, { timeoutMs, intervalMs: 100 });
      } catch (reason) {
        throw new Error(
          `Cannot wait longer for ${resource}/${name}, which is ${
            JSON.stringify(last, null, 1)
          }\n${controller.log.slice(-3_000)}`,
          { cause: reason },
        );
      }
    },
    async gone(resource, name, timeoutMs = 20_000) {
      await waitFor(async () => await kube.get(resource, name) === undefined, {
        what: `${resource}/${name} to be gone`,
        timeoutMs,
        intervalMs: 100,
      });
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
