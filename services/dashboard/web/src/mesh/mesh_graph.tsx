/** @jsxImportSource preact */
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type {
  MeshEdge,
  MeshState,
  RouterState,
  WorkerState,
} from "../../../api_types.ts";
import { nowMs } from "../data/live.ts";
import {
  formatAge,
  formatBytes,
  formatCount,
  formatMs,
  formatRate,
  formatShare,
} from "../format.ts";
import { Foreign, tame } from "../parts/foreign.tsx";
import { Badge, Meter } from "../parts/small.tsx";
import {
  type Box,
  clients,
  columnsOf,
  curveBetween,
  widthOf,
} from "./graph_layout.ts";

/** Processes as boxes in the order of a request's way, traffic as curves between them. */
export function MeshGraph({ mesh }: { mesh: MeshState }) {
  const host = useRef<HTMLDivElement>(null);
  const boxes = useBoxes(host, mesh);
  const routers = new Map(mesh.routers.map((one) => [one.routerId, one]));
  const workers = new Map(mesh.workers.map((one) => [one.workerId, one]));
  return (
    <div class="graph" ref={host}>
      <svg class="edges" aria-hidden="true">
        <defs>
          <marker
            id="arrow"
            viewBox="0 0 8 8"
            refX="7"
            refY="4"
            markerWidth="7"
            markerHeight="7"
            markerUnits="userSpaceOnUse"
            orient="auto"
          >
            <path d="M0,0 L8,4 L0,8 Z" />
          </marker>
        </defs>
        {mesh.edges.map((edge) => (
          <Edge key={keyOf(edge)} edge={edge} boxes={boxes} />
        ))}
      </svg>
      {columnsOf(mesh).map((column) => (
        <section
          key={column.title}
          class="graph-column"
          aria-label={column.title}
        >
          <h2>{column.title}</h2>
          {column.ids.length === 0 && <p class="muted">None is known.</p>}
          {column.ids.map((id) => (
            <article
              key={id}
              class={`node ${workers.get(id)?.state ?? ""}`}
              data-node={id}
            >
              {id === clients
                ? <ClientsNode mesh={mesh} />
                : workers.has(id)
                ? <WorkerNode worker={workers.get(id)!} />
                : <RouterNode router={routers.get(id)!} />}
            </article>
          ))}
        </section>
      ))}
    </div>
  );
}

function Edge({ edge, boxes }: { edge: MeshEdge; boxes: Map<string, Box> }) {
  const from = boxes.get(edge.from);
  const to = boxes.get(edge.to);
  if (!from || !to) return null;
  return (
    <path
      class={`edge ${edge.kind} ${edge.errors > 0 ? "bad" : ""}`}
      d={curveBetween(from, to)}
      stroke-width={widthOf(edge)}
      marker-end="url(#arrow)"
    />
  );
}

function ClientsNode({ mesh }: { mesh: MeshState }) {
  const sum = (pick: (router: RouterState) => number) =>
    mesh.routers.reduce((total, router) => total + pick(router), 0);
  return (
    <>
      <h3>All clients</h3>
      <Lines
        lines={[
          ["Requests", formatRate(sum((one) => one.requestsPerS), "req")],
          ["Failures", formatRate(sum((one) => one.failuresPerS), "req")],
        ]}
      />
    </>
  );
}

function RouterNode({ router }: { router: RouterState }) {
  return (
    <>
      <NodeTitle id={router.routerId}>
        <span class="muted">{formatAge(router.seenAtMs, nowMs.value)}</span>
      </NodeTitle>
      <Lines
        lines={[
          ["Running", formatCount(router.running)],
          ["Held", formatCount(router.held)],
          ["Requests", formatRate(router.requestsPerS, "req")],
          ["Prompt", formatRate(router.promptTokensPerS, "tok")],
          ["Output", formatRate(router.outputTokensPerS, "tok")],
        ]}
      />
    </>
  );
}

function WorkerNode({ worker }: { worker: WorkerState }) {
  if (worker.state === "gone") return <GoneNode worker={worker} />;
  const { metrics } = worker;
  const isDecode = worker.role === "decode";
  return (
    <>
      <NodeTitle id={worker.workerId}>
        {worker.state === "ready"
          ? <Badge tone="good">ready</Badge>
          : <Badge tone="warn">draining</Badge>}
      </NodeTitle>
      {worker.models.map((model) => {
        const used = model.blocksTotal - model.blocksFree;
        return (
          <div key={model.model} class="node-model">
            <p class="node-model-name">
              <Foreign text={model.model} max={32} />
            </p>
            <Meter
              label="KV blocks"
              share={model.blocksTotal > 0 ? used / model.blocksTotal : null}
              text={`${formatCount(used)} of ${formatCount(model.blocksTotal)}`}
            />
            <Lines
              lines={[
                [
                  "Running",
                  `${model.running}${
                    model.waiting > 0 ? `, ${model.waiting} waiting` : ""
                  }`,
                ],
                ["Cached blocks", formatCount(model.blocksCached)],
                isDecode
                  ? ["Decode", formatRate(model.decodeTokensPerS, "tok")]
                  : ["Prefill", formatRate(model.prefillTokensPerS, "tok")],
              ]}
            />
          </div>
        );
      })}
      {metrics && (
        <>
          <Lines
            lines={[
              ["Batch", formatCount(metrics.batchSizeMean)],
              ["Step", formatMs(metrics.stepMsMean)],
              ["Prefix hits", formatShare(metrics.prefixHitShare)],
              ["Memory", formatBytes(metrics.residentBytes)],
            ]}
          />
          {metrics.roofShare === null
            ? <p class="muted small">Roof: not reported</p>
            : (
              <Meter
                label="Roof"
                share={metrics.roofShare}
                text={`${formatShare(metrics.roofShare)} of bandwidth`}
              />
            )}
          {metrics.stale && <p class="muted small">Metrics are out of date.</p>}
        </>
      )}
    </>
  );
}

/** Its numbers are old news; that it is missing is the news. */
function GoneNode({ worker }: { worker: WorkerState }) {
  return (
    <>
      <NodeTitle id={worker.workerId}>
        <Badge tone="bad">gone</Badge>
      </NodeTitle>
      <p class="small">
        Last heard of{" "}
        {formatAge(worker.seenAtMs, nowMs.value)}. Its sequences go on at
        another worker, if there is one.
      </p>
    </>
  );
}

function NodeTitle(
  { id, children }: { id: string; children: ComponentChildren },
) {
  return (
    <header class="node-head">
      <h3>
        <Foreign text={id} max={40} />
      </h3>
      {children}
    </header>
  );
}

function Lines({ lines }: { lines: readonly (readonly [string, string])[] }) {
  return (
    <dl class="lines">
      {lines.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** The same as the curves, in words and numbers. */
export function TrafficTable({ edges }: { edges: readonly MeshEdge[] }) {
  if (edges.length === 0) {
    return (
      <p class="muted">
        No request in the last minute. <a href="/playground">Send one</a>{" "}
        to see its way here.
      </p>
    );
  }
  return (
    <div class="scroll-x" tabIndex={0} role="group" aria-label="Traffic">
      <table class="plain">
        <thead>
          <tr>
            <th scope="col">From</th>
            <th scope="col">To</th>
            <th scope="col">What</th>
            <th scope="col" class="number">Calls</th>
            <th scope="col" class="number">Bytes</th>
            <th scope="col" class="number">Errors</th>
          </tr>
        </thead>
        <tbody>
          {edges.map((edge) => (
            <tr key={keyOf(edge)}>
              <td>
                <Foreign text={edge.from} max={40} />
              </td>
              <td>
                <Foreign text={edge.to} max={40} />
              </td>
              <td>
                <span class={`edge-key ${edge.kind}`} aria-hidden="true" />{" "}
                {tame(edge.kind, 20)}
              </td>
              <td class="number">{formatRate(edge.callsPerS, "")}</td>
              <td class="number">
                {edge.bytesPerS === null
                  ? "–"
                  : `${formatBytes(edge.bytesPerS)}/s`}
              </td>
              <td class="number">{formatCount(edge.errors)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function keyOf(edge: MeshEdge): string {
  return `${edge.kind} ${edge.from} ${edge.to}`;
}

/** Where the boxes are, measured again when the graph or its content changes. */
function useBoxes(
  host: { current: HTMLDivElement | null },
  mesh: MeshState,
): Map<string, Box> {
  const [boxes, setBoxes] = useState(new Map<string, Box>());
  useLayoutEffect(() => {
    const measure = () => {
      const next = new Map<string, Box>();
      for (
        const node of host.current!.querySelectorAll<HTMLElement>("[data-node]")
      ) {
        next.set(node.dataset.node!, {
          left: node.offsetLeft,
          top: node.offsetTop,
          width: node.offsetWidth,
          height: node.offsetHeight,
        });
      }
      setBoxes((last) => isSame(last, next) ? last : next);
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(host.current!);
    return () => observer.disconnect();
  }, [mesh]);
  return boxes;
}

function isSame(a: Map<string, Box>, b: Map<string, Box>): boolean {
  return JSON.stringify([...a]) === JSON.stringify([...b]);
}
