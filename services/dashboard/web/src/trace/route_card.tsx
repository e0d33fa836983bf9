/** @jsxImportSource preact */
import type { RouteCandidate, RouteDecision } from "../../../api_types.ts";
import { formatCount, formatMs, unknown } from "../format.ts";
import { Foreign } from "../parts/foreign.tsx";
import { Badge, Section } from "../parts/small.tsx";

/** Which worker was chosen, and what every other one was judged by. */
export function RouteCard({ route, of }: { route: RouteDecision; of: number }) {
  const roles = ["decode", "prefill"] as const;
  return (
    <Section
      title={of > 1 ? `Route, attempt ${route.attempt}` : "Route"}
      aside={
        <span class="muted">
          <Foreign text={route.policy} max={40} /> · took{" "}
          {formatMs(route.durationMs)}
          {route.queueWaitMs !== null && route.queueWaitMs > 0 &&
            ` · held ${formatMs(route.queueWaitMs)}`}
        </span>
      }
    >
      {route.error && (
        <p class="problem">
          <Foreign text={route.error} max={500} />
        </p>
      )}
      {roles.map((role) => (
        <Candidates
          key={role}
          role={role}
          candidates={route.candidates.filter((one) => one.role === role)}
        />
      ))}
      {!route.prefillWorker && route.prefillReason && (
        <p class="muted">
          No prefill worker: <Foreign text={route.prefillReason} max={80} />
          {route.uncachedTokens !== null &&
            `, ${route.uncachedTokens} tokens not cached`}
          .
        </p>
      )}
    </Section>
  );
}

function Candidates(
  { role, candidates }: {
    role: string;
    candidates: readonly RouteCandidate[];
  },
) {
  if (candidates.length === 0) return null;
  return (
    <div
      class="scroll-x"
      tabIndex={0}
      role="group"
      aria-label={`${role} candidates`}
    >
      <table class="plain">
        <thead>
          <tr>
            <th scope="col">{role} worker</th>
            <th scope="col" class="number">Score</th>
            <th scope="col" class="number" title="Tokens of work it had">
              Load
            </th>
            <th
              scope="col"
              class="number"
              title="Prompt tokens its prefix cache holds"
            >
              Cached
            </th>
            <th scope="col" class="number">Free blocks</th>
          </tr>
        </thead>
        <tbody>
          {candidates.map((candidate) => (
            <tr
              key={candidate.workerId}
              class={candidate.chosen ? "chosen" : undefined}
            >
              <th scope="row">
                <Foreign text={candidate.workerId} max={40} />{" "}
                {candidate.chosen && <Badge tone="good">chosen</Badge>}
              </th>
              <td class="number" data-score={candidate.score}>
                {scoreText(candidate.score)}
              </td>
              <td class="number">{formatCount(candidate.load)}</td>
              <td class="number">{formatCount(candidate.matchedTokens)}</td>
              <td class="number">{formatCount(candidate.blocksFree)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Close scores decide: four figures. */
function scoreText(score: number): string {
  return Number.isFinite(score)
    ? String(Number(score.toPrecision(4)))
    : unknown;
}
