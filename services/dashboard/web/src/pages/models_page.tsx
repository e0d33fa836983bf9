/** @jsxImportSource preact */
import type {
  ColdStart,
  ModelList,
  ModelState,
  ScalingDecision,
} from "../../../api_types.ts";
import { models as liveModels, nowMs } from "../data/live.ts";
import { useResource } from "../data/use_resource.ts";
import {
  formatAge,
  formatClock,
  formatCount,
  formatMs,
  formatRate,
} from "../format.ts";
import { Foreign, tame } from "../parts/foreign.tsx";
import { Failure, Notice } from "../parts/notice.tsx";
import { Badge, Meter, Stat, Stats } from "../parts/small.tsx";
import { Sparkline } from "../parts/sparkline.tsx";
import { textOf } from "../trace/span_details.tsx";

/** Every model that is served, sleeps or is only asked for. */
export function ModelsPage() {
  const first = useResource<ModelList>(
    liveModels.value ? undefined : "/api/models",
  );
  const list = liveModels.value ?? first.value;
  return (
    <div class="page">
      <header class="page-head">
        <h1>Models</h1>
        {list && <span class="muted">{countsOf(list)}</span>}
      </header>
      {list === undefined
        ? first.failure
          ? <Failure failure={first.failure} retry={first.reload} />
          : <p class="muted loading" role="status">Loading the models…</p>
        : list.models.length === 0
        ? (
          <Notice title="No model is served or asked for">
            <p>Start a worker with one:</p>
            <pre>npx -y deno@2.9.3 task up --model FILE.gguf</pre>
          </Notice>
        )
        : (
          <div class="columns">
            {list.models.map((model) => (
              <ModelCard key={model.model} model={model} />
            ))}
          </div>
        )}
    </div>
  );
}

const stateTones = {
  running: "good",
  waking: "busy",
  asleep: "quiet",
  absent: "warn",
} as const;

const stateHints = {
  running: "A decode worker serves it",
  waking: "Requests are held; nobody serves it yet",
  asleep: "It was served before; nobody serves it now",
  absent: "It was only asked for",
} as const;

function ModelCard({ model }: { model: ModelState }) {
  const used = model.blocksTotal - model.blocksFree;
  return (
    <section
      class="card model"
      data-model={model.model}
      aria-label={tame(model.model, 80)}
    >
      <header class="card-head">
        <h2>
          <Foreign text={model.model} max={60} />
        </h2>
        <span title={stateHints[model.state]}>
          <Badge tone={stateTones[model.state]}>{model.state}</Badge>
        </span>
      </header>
      <Stats>
        <Stat label="Decode">
          {model.decodeReplicas} <small>replicas</small>
        </Stat>
        <Stat label="Prefill">
          {model.prefillReplicas} <small>replicas</small>
        </Stat>
        <Stat label="Running">{formatCount(model.running)}</Stat>
        <Stat label="Waiting">{formatCount(model.waiting)}</Stat>
        <Stat label="Held" tone={model.held > 0 ? "warn" : undefined}>
          {formatCount(model.held)}
        </Stat>
        <Stat label="Output">{formatRate(model.outputTokensPerS, "tok")}</Stat>
      </Stats>
      {model.blocksTotal > 0 && (
        <Meter
          label="KV blocks"
          share={used / model.blocksTotal}
          text={`${formatCount(used)} of ${formatCount(model.blocksTotal)}`}
        />
      )}
      <Traffic model={model} />
      <ColdStarts starts={model.coldStarts} />
      <Decisions decisions={model.decisions} />
    </section>
  );
}

function Traffic({ model }: { model: ModelState }) {
  const arrivals = model.traffic.map((point) => point.arrivals);
  const total = arrivals.reduce((sum, count) => sum + count, 0);
  return (
    <div class="traffic">
      <p class="muted">
        {formatRate(model.requestsPerS, "req")} now, {total} in{" "}
        {model.traffic.length} s
        {model.lastRequestAtMs !== null &&
          `, last ${formatAge(model.lastRequestAtMs, nowMs.value)}`}
      </p>
      {total > 0 && (
        <Sparkline
          values={arrivals}
          bad={model.traffic.map((point) => point.failures)}
          label={`Arrivals per second over ${model.traffic.length} s, ${total} in all`}
        />
      )}
    </div>
  );
}

function ColdStarts({ starts }: { starts: readonly ColdStart[] }) {
  const done = starts.flatMap(({ wokenAtMs, readyAtMs }) =>
    readyAtMs === null ? [] : [readyAtMs - wokenAtMs]
  );
  const waiting = starts.find((start) => start.readyAtMs === null);
  return (
    <p>
      <strong>{starts.length}</strong>{" "}
      cold start{starts.length === 1 ? "" : "s"}
      {done.length > 0 &&
        `, last took ${formatMs(done[done.length - 1])}, longest ${
          formatMs(Math.max(...done))
        }`}
      {waiting && " "}
      {waiting && (
        <Badge tone="busy">
          waking for {formatMs(Math.max(0, nowMs.value - waiting.wokenAtMs))}
        </Badge>
      )}
    </p>
  );
}

function Decisions({ decisions }: { decisions: readonly ScalingDecision[] }) {
  if (decisions.length === 0) {
    return <p class="muted">No scaling decision has been reported.</p>;
  }
  return (
    <details open>
      <summary>Scaling decisions</summary>
      <ol class="events decisions">
        {decisions.map((decision, i) => (
          <li key={`${decision.atMs} ${i}`}>
            <a href={`/traces/${encodeURIComponent(decision.traceId)}`}>
              {formatClock(decision.atMs)}
            </a>{" "}
            <strong>
              {decision.replicasBefore ?? "–"} → {decision.replicasAfter ?? "–"}
            </strong>{" "}
            <Foreign text={decision.policy} max={40} />:{" "}
            <Foreign text={decision.reason} max={200} />
            <small class="muted">
              {tame(
                Object.entries(decision.signals).map(([name, value]) =>
                  `${name.replace(/^quetzal\.scaling\./, "")} ${textOf(value)}`
                ).join(", "),
                400,
              )}
            </small>
          </li>
        ))}
      </ol>
    </details>
  );
}

function countsOf({ models }: ModelList): string {
  const states = ["running", "waking", "asleep", "absent"] as const;
  return states.flatMap((state) => {
    const count = models.filter((model) => model.state === state).length;
    return count > 0 ? [`${count} ${state}`] : [];
  }).join(", ");
}
