/** @jsxImportSource preact */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { TraceSummary } from "../../../api_types.ts";
import { formatShare } from "../format.ts";
import { Icon } from "./icons.tsx";
import { tame } from "./foreign.tsx";

/** A number with its name. */
export function Stat(
  { label, children, hint, tone }: {
    label: string;
    children: ComponentChildren;
    hint?: string;
    tone?: "bad" | "warn";
  },
) {
  return (
    <div class={`stat ${tone ?? ""}`} title={hint}>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}

export function Stats({ children }: { children: ComponentChildren }) {
  return <dl class="stats">{children}</dl>;
}

/** Colour and word: never colour alone. */
export function StatusBadge(
  { trace }: { trace: Pick<TraceSummary, "status" | "open" | "errorType"> },
) {
  const [tone, word] = trace.open
    ? ["busy", "running"]
    : trace.status === "error"
    ? ["bad", trace.errorType ?? "error"]
    : trace.status === "cancelled"
    ? ["warn", "cancelled"]
    : ["good", "ok"];
  return <Badge tone={tone}>{tame(word, 24)}</Badge>;
}

export function Badge(
  { tone, children }: { tone: string; children: ComponentChildren },
) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

/** How full something is. */
export function Meter(
  { label, share, text }: { label: string; share: number | null; text: string },
) {
  const clipped = Math.min(1, Math.max(0, share ?? 0));
  return (
    <div class="meter">
      <span class="meter-label">{label}</span>
      <span class="meter-text">{text}</span>
      <div
        class={`meter-track ${clipped > 0.92 ? "high" : ""}`}
        role="img"
        aria-label={`${label}: ${formatShare(share)}`}
      >
        <div class="meter-fill" style={{ width: `${clipped * 100}%` }} />
      </div>
    </div>
  );
}

/** An id that can be copied whole though it is shown short. */
export function CopyId({ id, what }: { id: string; what: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(id);
      setCopied(true);
      setTimeout(() => setCopied(false), 1_500);
    } catch {
      // No permission: the id is on the page and can be selected.
    }
  };
  return (
    <span class="copy-id">
      <code>{tame(id, 64)}</code>
      <button
        type="button"
        class="icon-button small"
        onClick={copy}
        aria-label={copied ? "Copied" : `Copy ${what}`}
        title={`Copy ${what}`}
      >
        <Icon name={copied ? "check" : "copy"} size={14} />
      </button>
    </span>
  );
}

export function Section(
  { title, aside, children, id }: {
    title: string;
    aside?: ComponentChildren;
    children: ComponentChildren;
    id?: string;
  },
) {
  return (
    <section class="card" id={id} aria-label={title}>
      <header class="card-head">
        <h2>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}
