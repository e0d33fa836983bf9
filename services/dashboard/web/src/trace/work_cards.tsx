/** @jsxImportSource preact */
import type { DecodeRun, KvTransfer, PrefillRun } from "../../../api_types.ts";
import { formatBytes, formatCount, formatMs, formatRate } from "../format.ts";
import { Foreign } from "../parts/foreign.tsx";
import { Section, Stat, Stats } from "../parts/small.tsx";

export function PrefillCard({ run }: { run: PrefillRun }) {
  return (
    <Section
      title="Prefill"
      aside={
        <span class="muted">
          {run.where === "prefill" ? "on " : "in the decode worker "}
          <Foreign text={run.workerId} max={40} />
        </span>
      }
    >
      <Stats>
        <Stat label="Took">{formatMs(run.durationMs)}</Stat>
        <Stat label="Queued">{formatMs(run.queueMs)}</Stat>
        <Stat label="Computing">{formatMs(run.computeMs)}</Stat>
        <Stat label="Sending">{formatMs(run.sendMs)}</Stat>
        <Stat label="Computed">
          {formatCount(run.computedTokens)} <small>tokens</small>
        </Stat>
        <Stat label="From cache">
          {formatCount(run.cachedTokens)} <small>tokens</small>
        </Stat>
      </Stats>
      {run.chunks.length > 0 && (
        <details>
          <summary>{run.chunks.length} chunks</summary>
          <ol class="events">
            {run.chunks.slice(0, 200).map((chunk, i) => (
              <li key={i}>
                {formatMs(chunk.durationMs)}, {chunk.blocks} blocks
                {chunk.tokens !== null && `, ${chunk.tokens} tokens`}
              </li>
            ))}
          </ol>
        </details>
      )}
    </Section>
  );
}

export function TransferCard({ transfer }: { transfer: KvTransfer }) {
  return (
    <Section
      title="KV transfer"
      aside={
        <span class="muted">
          from <Foreign text={transfer.workerId ?? transfer.from} max={40} />
        </span>
      }
    >
      {transfer.failure && (
        <p class="problem">
          Ended early:{" "}
          <Foreign text={transfer.failure} max={200} />. The rest was computed
          by decode.
        </p>
      )}
      <Stats>
        <Stat label="Bytes">{formatBytes(transfer.bytes)}</Stat>
        <Stat label="Rate" hint="Waiting for the prompt's computation included">
          {transfer.bytesPerS === null
            ? "–"
            : `${formatBytes(transfer.bytesPerS)}/s`}
        </Stat>
        <Stat label="Blocks">{formatCount(transfer.blocks)}</Stat>
        <Stat label="Took">{formatMs(transfer.durationMs)}</Stat>
      </Stats>
    </Section>
  );
}

export function DecodeCard({ run, of }: { run: DecodeRun; of: number }) {
  const tokens = run.outputTokens;
  return (
    <Section
      title={of > 1 ? `Decode, attempt ${run.attempt}` : "Decode"}
      aside={
        <span class="muted">
          on <Foreign text={run.workerId} max={40} />
        </span>
      }
    >
      {run.error && (
        <p class="problem">
          <Foreign text={run.error} max={500} />
        </p>
      )}
      <Stats>
        <Stat label="Took">{formatMs(run.durationMs)}</Stat>
        <Stat label="Queued">{formatMs(run.queueMs)}</Stat>
        <Stat label="Steps">{formatCount(run.stepCount)}</Stat>
        <Stat label="Tokens">{formatCount(tokens)}</Stat>
        <Stat label="Rate" hint="Output tokens over the whole call">
          {tokens ? formatRate(tokens / run.durationMs * 1_000, "tok") : "–"}
        </Stat>
        <Stat label="Prompt" hint="Cached, transferred and computed tokens">
          {formatCount(run.cachedTokens)}
          <small>
            {` cached, ${formatCount(run.transferredTokens)} sent, ${
              formatCount(run.computedTokens)
            } computed`}
          </small>
        </Stat>
        {(run.replayedTokens ?? 0) > 0 && (
          <Stat label="Replayed" tone="warn">
            {formatCount(run.replayedTokens)} <small>tokens</small>
          </Stat>
        )}
        {(run.preemptions ?? 0) > 0 && (
          <Stat label="Preempted" tone="warn">
            {formatCount(run.preemptions)}
          </Stat>
        )}
        <Stat label="Ended by">
          <Foreign text={run.finishReason} max={40} />
        </Stat>
      </Stats>
    </Section>
  );
}
