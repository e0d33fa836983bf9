/** Which column a process stands in, and how the arrows between them run. */
import type { MeshEdge, MeshState } from "../../../api_types.ts";

export interface GraphColumn {
  readonly title: string;
  readonly ids: readonly string[];
}

export const clients = "clients";

/** The way of a request, left to right. */
export function columnsOf(mesh: MeshState): GraphColumn[] {
  const workers = (role: string) =>
    mesh.workers.filter((worker) => worker.role === role)
      .map((worker) => worker.workerId);
  return [
    { title: "Clients", ids: [clients] },
    { title: "Routers", ids: mesh.routers.map((router) => router.routerId) },
    { title: "Decode", ids: workers("decode") },
    { title: "Prefill", ids: workers("prefill") },
  ];
}

export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** A curve from the side of one box to the facing side of another. */
export function curveBetween(from: Box, to: Box): string {
  const goesRight = from.left <= to.left;
  const x1 = goesRight ? from.left + from.width : from.left;
  const x2 = goesRight ? to.left : to.left + to.width;
  const y1 = from.top + from.height / 2;
  const y2 = to.top + to.height / 2;
  const bend = Math.max(24, Math.abs(x2 - x1) / 2) * (goesRight ? 1 : -1);
  return `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
}

/** Ten times the traffic is one and a half times as wide. */
export function widthOf(edge: MeshEdge): number {
  return Math.min(8, 1.2 + Math.log10(1 + edge.callsPerS * 10) * 1.5);
}
