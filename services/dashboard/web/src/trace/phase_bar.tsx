/** @jsxImportSource preact */
import type { TraceDetail } from "../../../api_types.ts";
import { formatMs, formatShare } from "../format.ts";
import { phaseLabels } from "./tones.ts";
import { zoomTo } from "./time_window.ts";

/** Where the time went, in one line; a press on a phase zooms the waterfall to it. */
export function PhaseBar({ detail }: { detail: TraceDetail }) {
  const { phases, summary } = detail;
  const totalMs = Math.max(summary.durationMs, 0.001);
  if (phases.length === 0) return null;
  return (
    <div class="phases">
      <div class="phase-track" aria-hidden="true">
        {phases.map((phase, i) => (
          <span
            key={i}
            class={`phase-${phase.name}`}
            style={{
              left: `${(phase.startAtMs - summary.startAtMs) / totalMs * 100}%`,
              width: `${phase.durationMs / totalMs * 100}%`,
            }}
          />
        ))}
      </div>
      <ul class="phase-list">
        {phases.map((phase, i) => (
          <li key={i}>
            <button
              type="button"
              class="phase-button"
              title={`Zoom to ${phaseLabels[phase.name]}`}
              onClick={() => {
                const fromMs = phase.startAtMs - summary.startAtMs;
                const padMs = phase.durationMs * 0.05;
                zoomTo({
                  fromMs: fromMs - padMs,
                  toMs: fromMs + phase.durationMs + padMs,
                });
              }}
            >
              <span class={`dot phase-${phase.name}`} aria-hidden="true" />
              {phaseLabels[phase.name]}
              {phase.attempt > 1 && ` (attempt ${phase.attempt})`}
              <strong data-phase={phase.name}>
                {formatMs(phase.durationMs)}
              </strong>
              <small class="muted">
                {formatShare(phase.durationMs / totalMs)}
              </small>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
