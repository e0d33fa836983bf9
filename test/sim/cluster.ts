/**
 * Nodes with GPUs: which are taken, and which images and weights lie where.
 * Host memory for weights comes with the GPUs held on a node and shrinks when
 * they are given back; disks keep what they have.
 */
import type { NodeView } from "../../services/autoscaler/placement/mod.ts";
import type { Profile } from "./profile.ts";

export class ClusterNode implements NodeView {
  gpusHeld = 0;
  hasImage = false;
  /** Weights in host memory, least recently used first. */
  readonly hostModels = new Map<number, number>();
  #hostBytes = 0;

  constructor(
    readonly id: number,
    readonly diskModels: { has(model: number): boolean; add(m: number): void },
    readonly hostBytesPerGpu: number,
  ) {}

  /** Puts weights into host memory, the least recently used ones out. */
  keepInHost(model: number, weightsBytes: number): void {
    const known = this.hostModels.get(model);
    if (known !== undefined) this.#drop(model, known);
    if (weightsBytes > this.#hostBytesMax()) return;
    this.hostModels.set(model, weightsBytes);
    this.#hostBytes += weightsBytes;
    this.trim();
  }

  hasHostRoomFor(weightsBytes: number): boolean {
    return this.#hostBytes + weightsBytes <= this.#hostBytesMax();
  }

  trim(): void {
    for (const [model, bytes] of this.hostModels) {
      if (this.#hostBytes <= this.#hostBytesMax()) return;
      this.#drop(model, bytes);
    }
  }

  #hostBytesMax(): number {
    return this.gpusHeld * this.hostBytesPerGpu;
  }

  #drop(model: number, bytes: number): void {
    this.hostModels.delete(model);
    this.#hostBytes -= bytes;
  }
}

const everything = { has: () => true, add: () => {} };

export function createNodes(profile: Profile): ClusterNode[] {
  const count = Math.ceil(profile.gpusMax / profile.gpusPerNode);
  return Array.from({ length: count }, (_, id) =>
    new ClusterNode(
      id,
      profile.weightsOnDisk ? everything : new Set<number>(),
      profile.hostBytesPerGpu,
    ));
}

/**
 * The node for one more GPU: one that has the model's weights near, else one
 * that is in use already, so that caches are shared. `undefined`: all taken.
 */
export function takeGpu(
  nodes: readonly ClusterNode[],
  gpusPerNode: number,
  model: number | undefined,
): ClusterNode | undefined {
  let best: ClusterNode | undefined;
  let bestScore = -1;
  for (const node of nodes) {
    if (node.gpusHeld >= gpusPerNode) continue;
    const near = model === undefined
      ? 0
      : node.hostModels.has(model)
      ? 4
      : node.diskModels.has(model)
      ? 2
      : 0;
    const score = near + (node.hasImage ? 1 : 0) +
      (node.gpusHeld > 0 ? 0.5 : 0);
    if (score > bestScore) {
      best = node;
      bestScore = score;
    }
  }
  if (best) best.gpusHeld++;
  return best;
}

export function giveGpuBack(node: ClusterNode): void {
  node.gpusHeld--;
  node.trim();
}
