/** @jsxImportSource preact */
import { useEffect } from "preact/hooks";
import type { ModelSpeculation, SpeculationStats } from "../../../api_types.ts";
import { serverNow } from "../data/live.ts";
import { useResource } from "../data/use_resource.ts";
import { formatCount, formatShare, unknown } from "../format.ts";
import { query, setQuery } from "../navigation/address.ts";
import { tame } from "../parts/foreign.tsx";
import { Failure, Notice } from "../parts/notice.tsx";
import { Section, Stat, Stats } from "../parts/small.tsx";

const ranges = { "15m": 15, "1h": 60, "24h": 1_440 } as const;
const refreshMs = 5_000;

/** Whether drafting pays: how much is accepted, where in the draft, and how much faster it is. */
export function SpeculationPage() {
  const asked = query.value.get("range") ?? "15m";
  const range = asked in ranges ? asked as keyof typeof ranges : "15m";
  const model = query.value.get("model");
  const params = new URLSearchParams();
  if (model) params.set("model", model);
  // To the minute: the address of the question stays the same while it is asked again.
  const minute = Math.floor(serverNow() / 60_000) * 60_000;
  params.set("fromMs", String(minute - ranges[range] * 60_000));
  const stats = useResource<SpeculationStats>(`/api/speculation?${params}`);
  useEffect(() => {
    const timer = setInterval(stats.reload, refreshMs);
    return () => clearInterval(timer);
  }, []);
  const drafted = stats.value?.models.filter((one) =>
    one.accepted + one.corrected > 0 || (one.drafted ?? 0) > 0
  );
  return (
    <div class="page">
      <header class="page-head">
        <h1>Speculation</h1>
        <label class="field inline">
          <span>Last</span>
          <select
            value={range}
            onChange={({ currentTarget }) =>
              setQuery({
                range: currentTarget.value === "15m"
                  ? undefined
                  : currentTarget.value,
              })}
          >
            <option value="15m">15 minutes</option>
            <option value="1h">1 hour</option>
            <option value="24h">24 hours</option>
          </select>
        </label>
      </header>
      {stats.failure
        ? <Failure failure={stats.failure} retry={stats.reload} />
        : drafted === undefined
        ? <p class="muted loading" role="status">Loading…</p>
        : drafted.length === 0
        ? <NoDrafts models={stats.value!.models} />
        : (
          <div class="columns">
            {drafted.map((one) => (
              <SpeculationCard key={one.model} model={one} />
            ))}
          </div>
        )}
    </div>
  );
}

function NoDrafts({ models }: { models: readonly ModelSpeculation[] }) {
  const tokens = models.reduce((sum, model) => sum + model.tokens, 0);
  return (
    <Notice title="No draft was used">
      <p>
        {tokens > 0
          ? `All ${
            formatCount(tokens)
          } tokens of this time were decoded plainly, one per step and sequence.`
          : "No tokens were generated in this time."}
      </p>
      <p>
        A draft model proposes several tokens that the large model checks in one
        step. With a draft service in the mesh, this page shows how many of its
        proposals are accepted at each position, and what that gains.
      </p>
      <p class="muted">
        Until then, every token of a <a href="/requests">trace</a>{" "}
        is marked as plain.
      </p>
    </Notice>
  );
}

function SpeculationCard({ model }: { model: ModelSpeculation }) {
  return (
    <Section
      title={tame(model.model, 60)}
      aside={<span class="muted">{formatCount(model.traces)} traces</span>}
    >
      <Stats>
        <Stat
          label="Speedup"
          hint="Time per token of plain steps over that of drafted steps"
        >
          {model.speedup === null ? unknown : `${model.speedup.toFixed(2)} ×`}
        </Stat>
        <Stat label="Acceptance">{formatShare(model.acceptance)}</Stat>
        <Stat label="Tokens per step">{formatCount(model.tokensPerStep)}</Stat>
        <Stat label="Accepted">{formatCount(model.accepted)}</Stat>
        <Stat label="Corrected">{formatCount(model.corrected)}</Stat>
        <Stat label="Plain">{formatCount(model.plain)}</Stat>
      </Stats>
      {model.speedup === null && (
        <p class="muted">
          A speedup needs both plain and drafted steps in this time.
        </p>
      )}
      <h3>Acceptance by position in the draft</h3>
      <ol class="positions">
        {model.positions.map(({ reached, accepted }, i) => {
          const share = reached > 0 ? accepted / reached : null;
          return (
            <li key={i}>
              <span class="number">{i + 1}</span>
              <span class="meter-track" aria-hidden="true">
                <span
                  class="meter-fill"
                  style={{ width: `${(share ?? 0) * 100}%` }}
                />
              </span>
              <span class="number">{formatShare(share)}</span>
              <small class="muted">
                {formatCount(accepted)} of {formatCount(reached)}
              </small>
            </li>
          );
        })}
      </ol>
    </Section>
  );
}
