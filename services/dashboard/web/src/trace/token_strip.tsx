/** @jsxImportSource preact */
import { memo } from "preact/compat";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Provenance, TokenStrip as Tokens } from "../../../api_types.ts";
import { formatMs } from "../format.ts";
import { query, setQuery } from "../navigation/address.ts";
import { tame } from "../parts/foreign.tsx";
import { scaleOf, TokenChart } from "./token_chart.tsx";

/** Tokens of one group: only groups near what is in sight are made. */
const groupSize = 100;

/** Made at once, more than a screen holds; the others as they are scrolled to. */
const groupsAtOnce = 3;

const provenanceLabels: Readonly<Record<Provenance, string>> = {
  plain: "plain",
  accepted: "draft accepted",
  corrected: "draft corrected",
  unknown: "not reported",
};

/** Every output token with its text, its latency and how it came about. */
export function TokenStrip({ tokens }: { tokens: Tokens }) {
  const host = useRef<HTMLDivElement>(null);
  const asked = Number(query.value.get("token") ?? NaN);
  const selected = Number.isInteger(asked) && asked >= 0 && asked < tokens.count
    ? asked
    : undefined;
  const select = (index: number, { focus = false } = {}) => {
    setQuery({ token: String(index) });
    if (focus) tokenElement(host.current!, index)?.focus();
  };
  useEffect(() => {
    const strip = host.current!;
    strip.querySelector("[aria-current]")?.removeAttribute("aria-current");
    if (selected === undefined) return;
    const element = tokenElement(strip, selected);
    element?.setAttribute("aria-current", "true");
    element?.scrollIntoView({ block: "nearest" });
  }, [selected, tokens]);
  const near = useNearGroups(host, tokens.count);
  const groups = groupsOf(tokens);
  const { topMs } = useMemo(() => scaleOf(tokens.latencyMs), [tokens]);
  return (
    <div class="tokens">
      <Legend tokens={tokens} />
      <TokenChart tokens={tokens} selected={selected} onSelect={select} />
      <p class="token-detail" role="status" aria-live="polite">
        {selected === undefined
          ? "Select a token to see its step; arrow keys move along."
          : describe(tokens, selected)}
      </p>
      <div
        ref={host}
        class="strip"
        role="group"
        aria-label={`${tokens.count} output tokens`}
        tabIndex={0}
        onClick={(event) => {
          const index = indexOf(event.target);
          if (index !== undefined) select(index);
        }}
        onKeyDown={(event) => {
          const next = nextIndex(event.key, selected ?? -1, tokens.count);
          if (next === undefined) return;
          event.preventDefault();
          select(next, { focus: true });
        }}
      >
        {groups.map((from, g) => {
          const isMade = g < groupsAtOnce || near.has(g) ||
            (selected !== undefined && Math.floor(selected / groupSize) === g);
          return isMade
            ? <Group key={from} tokens={tokens} from={from} topMs={topMs} />
            : <div key={from} class="group later" data-group={g} />;
        })}
      </div>
      {tokens.texts === null && (
        <p class="muted">
          Texts are not captured. Start the services with
          QUETZAL_CAPTURE_CONTENT=true to see what each token wrote; until then
          a token shows its number.
        </p>
      )}
      {!tokens.complete && (
        <p class="muted">
          The answer was longer than what a trace keeps: these are the first
          {" "}
          {tokens.count} tokens.
        </p>
      )}
    </div>
  );
}

/** Groups that came within two screens of the strip's sight once. */
function useNearGroups(
  host: { current: HTMLDivElement | null },
  count: number,
): ReadonlySet<number> {
  const [near, setNear] = useState<ReadonlySet<number>>(new Set());
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => {
      const found = entries.filter((entry) => entry.isIntersecting)
        .map(({ target }) => Number((target as HTMLElement).dataset.group));
      if (found.length > 0) setNear((last) => new Set([...last, ...found]));
    }, { root: host.current, rootMargin: "900px 0px" });
    for (const group of host.current!.querySelectorAll("[data-group]")) {
      observer.observe(group);
    }
    return () => observer.disconnect();
  }, [count, near]);
  return near;
}

interface GroupProps {
  readonly tokens: Tokens;
  readonly from: number;
  readonly topMs: number;
}

const Group = memo(function Group({ tokens, from, topMs }: GroupProps) {
  const items = [];
  const end = Math.min(tokens.count, from + groupSize);
  for (let i = from; i < end; i++) {
    const name = tokens.provenanceNames[tokens.provenance[i]] ?? "unknown";
    const text = textOf(tokens, i);
    const heat = Math.min(4, Math.floor(tokens.latencyMs[i] / topMs * 5));
    items.push(
      <span
        key={i}
        class={`token ${name} heat-${heat}`}
        data-i={i}
        data-ms={shortMs(tokens.latencyMs[i])}
        tabIndex={-1}
      >
        {text}
      </span>,
    );
    if (tokens.texts?.[i].endsWith("\n")) items.push(<br key={`${i}br`} />);
  }
  return <div class="group">{items}</div>;
});

function Legend({ tokens }: { tokens: Tokens }) {
  const counts = useMemo(() => countProvenance(tokens), [tokens]);
  return (
    <ul class="token-legend">
      {[...counts].map(([name, count]) => (
        <li key={name} data-provenance={name} data-count={count}>
          <span class={`token ${name}`} aria-hidden="true">a</span>
          {provenanceLabels[name]} <strong>{count}</strong>
        </li>
      ))}
    </ul>
  );
}

function countProvenance(tokens: Tokens): Map<Provenance, number> {
  const counts = new Map<Provenance, number>();
  for (const index of tokens.provenance) {
    const name = tokens.provenanceNames[index] ?? "unknown";
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

function describe(tokens: Tokens, i: number): string {
  const name = tokens.provenanceNames[tokens.provenance[i]] ?? "unknown";
  const text = tokens.texts === null
    ? ""
    : ` ${JSON.stringify(tame(tokens.texts[i], 60))}`;
  const id = tokens.ids === null ? "" : `; id ${tokens.ids[i]}`;
  const attempt = tokens.attempt[i] > 1 ? `, attempt ${tokens.attempt[i]}` : "";
  return `Token ${i + 1} of ${tokens.count}${text}: ${
    formatMs(tokens.latencyMs[i])
  } after the one before, at ${formatMs(tokens.offsetMs[i])}; ${
    provenanceLabels[name]
  }; step ${tokens.step[i]} took ${formatMs(tokens.stepMs[i])} in a batch of ${
    tokens.batchSize[i]
  }${id}${attempt}`;
}

/** Spaces and line ends are tokens too. */
function textOf(tokens: Tokens, i: number): string {
  if (tokens.texts === null) return String(tokens.ids?.[i] ?? i + 1);
  const text = tame(tokens.texts[i], 80);
  if (text === "") return "·";
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥");
}

/** Under a token there is room for three figures; milliseconds. */
function shortMs(ms: number): string {
  if (ms === 0) return "0";
  return ms >= 100 ? String(Math.round(ms)) : String(Number(ms.toPrecision(2)));
}

function groupsOf(tokens: Tokens): number[] {
  const count = Math.ceil(tokens.count / groupSize);
  return Array.from({ length: count }, (_, i) => i * groupSize);
}

function tokenElement(strip: HTMLElement, index: number) {
  return strip.querySelector<HTMLElement>(`[data-i="${index}"]`);
}

function indexOf(target: EventTarget | null): number | undefined {
  const element = (target as Element | null)?.closest<HTMLElement>("[data-i]");
  return element ? Number(element.dataset.i) : undefined;
}

function nextIndex(
  key: string,
  at: number,
  count: number,
): number | undefined {
  switch (key) {
    case "ArrowRight":
      return Math.min(count - 1, at + 1);
    case "ArrowLeft":
      return Math.max(0, at - 1);
    case "Home":
      return 0;
    case "End":
      return count - 1;
  }
}
