/** @jsxImportSource preact */
import type { MeshEvent, MeshState } from "../../../api_types.ts";
import { mesh as liveMesh } from "../data/live.ts";
import { useResource } from "../data/use_resource.ts";
import { formatClock } from "../format.ts";
import { MeshGraph, TrafficTable } from "../mesh/mesh_graph.tsx";
import { tame } from "../parts/foreign.tsx";
import { Failure, Notice } from "../parts/notice.tsx";
import { Section } from "../parts/small.tsx";

/** Who is alive, how full everybody is and what goes between them. */
export function MeshPage() {
  const first = useResource<MeshState>(
    liveMesh.value ? undefined : "/api/mesh",
  );
  const mesh = liveMesh.value ?? first.value;
  return (
    <div class="page">
      <header class="page-head">
        <h1>Mesh</h1>
        {mesh && <span class="muted">{summaryOf(mesh)}</span>}
      </header>
      {mesh
        ? <Content mesh={mesh} />
        : first.failure
        ? <Failure failure={first.failure} retry={first.reload} />
        : <p class="muted loading" role="status">Loading the mesh…</p>}
    </div>
  );
}

function Content({ mesh }: { mesh: MeshState }) {
  const isEmpty = mesh.routers.length === 0 && mesh.workers.length === 0;
  return (
    <>
      {!mesh.natsConnected && (
        <Notice title="NATS is away" tone="error">
          <p>
            What follows is the last known state. Routers go on with the workers
            they know; start NATS again and this page follows by itself.
          </p>
        </Notice>
      )}
      {isEmpty
        ? (
          <Notice title="Nobody is here">
            <p>No router and no worker has registered in NATS. Start a mesh:</p>
            <pre>npx -y deno@2.9.3 task up</pre>
            <p class="muted">
              If one runs already, compare QUETZAL_NATS_URL of its services with
              that of the dashboard.
            </p>
          </Notice>
        )
        : <MeshGraph mesh={mesh} />}
      <div class="columns">
        <Section title="Traffic of the last minute">
          <TrafficTable edges={mesh.edges} />
        </Section>
        <Section title="What happened">
          <EventLog log={mesh.log} />
        </Section>
      </div>
    </>
  );
}

function EventLog({ log }: { log: readonly MeshEvent[] }) {
  if (log.length === 0) {
    return (
      <p class="muted">
        Nothing since the dashboard started. Workers that come and go are told
        here.
      </p>
    );
  }
  return (
    <ol
      class="events log"
      tabIndex={0}
      aria-label="What happened, newest first"
    >
      {[...log].reverse().map((event, i) => (
        <li key={`${event.atMs} ${i}`} data-kind={event.kind}>
          <span class="number">{formatClock(event.atMs)}</span>
          <span class={`log-mark ${event.kind}`} aria-hidden="true" />
          <bdi>{tame(event.text, 300)}</bdi>
        </li>
      ))}
    </ol>
  );
}

function summaryOf(mesh: MeshState): string {
  const count = (role: string) =>
    mesh.workers.filter((worker) =>
      worker.role === role && worker.state !== "gone"
    ).length;
  const plural = (n: number, what: string) =>
    `${n} ${what}${n === 1 ? "" : "s"}`;
  return `${plural(mesh.routers.length, "router")}, ${
    plural(count("decode"), "decode worker")
  }, ${plural(count("prefill"), "prefill worker")}`;
}
