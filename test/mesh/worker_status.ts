import { callUnary, connect } from "../../lib/rpc/mod.ts";
import { WorkerControlClient } from "../../proto/gen/quetzal/v1/control.ts";
import { connectBus, type WorkerRole } from "../../lib/bus/mod.ts";
import { eventually } from "./ask.ts";
import type { Mesh } from "./start_mesh.ts";

/** Addresses of the registered decode workers by id. */
export function decodeAddresses(mesh: Mesh): Promise<Map<string, string>> {
  return addressesOf(mesh, "decode");
}

export async function addressesOf(
  mesh: Mesh,
  role: WorkerRole,
): Promise<Map<string, string>> {
  await using bus = await connectBus({ url: mesh.nats.url, name: "test" });
  const addresses = new Map<string, string>();
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), 400);
  try {
    for await (const change of bus.watchWorkers(controller.signal)) {
      if (change.kind === "put" && change.record.role === role) {
        addresses.set(change.record.workerId, change.record.address);
      }
    }
  } catch (reason) {
    if (!controller.signal.aborted) throw reason;
  } finally {
    clearTimeout(timer);
  }
  return addresses;
}

/** The id of a worker that runs a sequence now; asks for up to 10 s. */
export function runningWorker(
  addresses: ReadonlyMap<string, string>,
): Promise<string> {
  return eventually(async () => {
    for (const [workerId, address] of addresses) {
      if (await isRunning(address)) return workerId;
    }
  });
}

async function isRunning(address: string): Promise<boolean> {
  const client = connect(WorkerControlClient, address);
  try {
    const { models } = await callUnary(client.status.bind(client), {}, {
      deadlineMs: Date.now() + 1_000,
    });
    return models.some(({ running }) => running > 0);
  } catch {
    // A dead one may still have its record.
    return false;
  } finally {
    client.close();
  }
}
