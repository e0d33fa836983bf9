/** @jsxImportSource preact */
import type { TokenStrip } from "../../../api_types.ts";
import { formatMs } from "../format.ts";
import { useCanvas } from "./canvas.ts";

interface TokenChartProps {
  readonly tokens: TokenStrip;
  readonly selected: number | undefined;
  readonly onSelect: (index: number) => void;
}

/** Latency of every token as a bar, first to last; a press selects one. */
export function TokenChart({ tokens, selected, onSelect }: TokenChartProps) {
  const { typicalMs, topMs } = scaleOf(tokens.latencyMs);
  const canvas = useCanvas(({ context, width, height, color }) => {
    const step = width / tokens.count;
    const gap = step > 4 ? 1 : 0;
    const y = (ms: number) => (height - 4) * Math.min(1, ms / topMs);
    context.fillStyle = color("line");
    context.fillRect(0, height - 1, width, 1);
    for (let i = 0; i < tokens.count; i++) {
      const ms = tokens.latencyMs[i];
      const name = tokens.provenanceNames[tokens.provenance[i]] ?? "unknown";
      const tall = Math.max(1, y(ms));
      context.fillStyle = color(`token-${name}`);
      context.fillRect(
        i * step,
        height - tall,
        Math.max(0.7, step - gap),
        tall,
      );
      if (ms > topMs) {
        context.fillStyle = color("bad");
        context.fillRect(i * step, 0, Math.max(2, step - gap), 4);
      }
    }
    context.fillStyle = color("muted");
    for (let x = 0; x < width; x += 8) {
      context.fillRect(x, height - y(typicalMs), 4, 1);
    }
    if (selected !== undefined) {
      context.fillStyle = color("text");
      context.fillRect(selected * step + step / 2 - 0.75, 0, 1.5, height);
    }
  }, [tokens, selected, topMs]);
  return (
    <figure class="token-chart">
      <figcaption class="muted">
        Latency per token: median {formatMs(typicalMs)}{" "}
        (dashed), top of the scale {formatMs(topMs)}
      </figcaption>
      <canvas
        ref={canvas}
        role="img"
        aria-label={`Latency of ${tokens.count} tokens, median ${
          formatMs(typicalMs)
        }, highest ${formatMs(highest(tokens.latencyMs))}`}
        onClick={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          const share = (event.clientX - box.left) / box.width;
          onSelect(
            Math.min(tokens.count - 1, Math.floor(share * tokens.count)),
          );
        }}
      />
    </figure>
  );
}

/** One outlier must not flatten the rest: beyond three times the 90th percentile bars are cut. */
export function scaleOf(latencyMs: readonly number[]) {
  const sorted = latencyMs.filter((ms) => ms > 0).sort((a, b) => a - b);
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  const max = sorted[sorted.length - 1] ?? 1;
  return {
    typicalMs: at(0.5),
    topMs: Math.max(0.001, Math.min(max, at(0.9) * 3 || max)),
  };
}

function highest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), 0);
}
