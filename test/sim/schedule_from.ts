/**
 * The schedule an operator would write after watching a service for a day: per
 * model and hour, the most replicas that target tracking used.
 */
import type { ScheduleEntry } from "../../services/autoscaler/policies/scheduled.ts";
import type { Profile } from "./profile.ts";
import { simulateTrace } from "./simulate_trace.ts";
import type { Trace } from "./trace/mod.ts";

const dayMs = 86_400_000;
const hourMs = 3_600_000;

export function scheduleFrom(
  trace: Trace,
  profile: Profile,
  seed: string,
): (model: string) => { schedule: ScheduleEntry[] } {
  const watchMs = Math.min(trace.durationMs, dayMs);
  const { timeline } = simulateTrace(firstPart(trace, watchMs), {
    profile,
    policy: "target",
    config: { slotShare: 0.5, replicasMin: 0, shrinkDelayMs: hourMs },
    seed,
  });
  const hours = Math.ceil(watchMs / hourMs);
  const schedules = new Map(timeline.models.map(({ name, ready }) => {
    const peaks = new Array<number>(hours).fill(0);
    ready.forEach((count, step) => {
      const hour = Math.floor((step * timeline.stepMs) / hourMs);
      peaks[hour] = Math.max(peaks[hour], count);
    });
    const schedule = peaks.map((replicas, hour) => ({
      minute: hour * 60,
      replicas,
    }));
    return [name, schedule];
  }));
  return (model) => ({ schedule: schedules.get(model) ?? [] });
}

function firstPart(trace: Trace, limitMs: number): Trace {
  return {
    ...trace,
    durationMs: limitMs,
    *requests() {
      const requests = trace.requests();
      for (let step = requests.next(); !step.done; step = requests.next()) {
        if (step.value.atMs >= limitMs) return;
        yield step.value;
      }
    },
  };
}
