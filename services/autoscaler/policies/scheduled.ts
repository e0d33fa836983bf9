import { isBlind, isSaturated } from "../signals.ts";
import {
  clampReplicas,
  holdReplicas,
  type Policy,
  replicasCurrent,
  scaleTo,
  type ScalingBounds,
} from "./policy.ts";

export interface ScheduleEntry {
  /** 0 Sunday to 6 Saturday; absent for every day. */
  readonly day?: number;
  /** Minute of the UTC day from which the count holds, until the next entry. */
  readonly minute: number;
  readonly replicas: number;
}

export interface ScheduledConfig extends ScalingBounds {
  readonly schedule: readonly ScheduleEntry[];
  /** Change early by this much, so that replicas are ready on time; default 2 min. */
  readonly leadMs: number;
}

const dayMs = 86_400_000;

/**
 * Replicas by the clock: the newest entry at or before now + lead, looking back
 * at most a week. For load that is known beforehand (batch jobs, office hours).
 * Requests held still bring one replica, and nothing shrinks while saturated.
 *
 * Example: 08:00 → 6, 19:00 → 1, lead 2 min: at 07:58 UTC 6 are wanted; at
 * 18:58 1, unless every slot is in use, then it waits.
 */
export const scheduled: Policy<ScheduledConfig, undefined> = {
  summary: "Replica counts by the clock",
  periodMs: 30_000,
  defaults: {
    replicasMin: 0,
    replicasMax: 100,
    schedule: [],
    leadMs: 120_000,
  },
  initialState: () => undefined,
  decide(signals, config, state, nowMs) {
    const entry = entryAt(config.schedule, nowMs + config.leadMs);
    if (isBlind(signals, nowMs) || entry === undefined) {
      const reason = entry === undefined ? "no-entry" : "no-data";
      return holdReplicas(signals, config, state, reason);
    }
    const current = replicasCurrent(signals);
    const busy = signals.held + signals.running + signals.waiting > 0 ? 1 : 0;
    const wish = clampReplicas(Math.max(entry.replicas, busy), config);
    const stays = wish < current && isSaturated(signals);
    return scaleTo(stays ? clampReplicas(current, config) : wish, {
      reason: stays ? "saturated" : "schedule",
      numbers: { scheduled: entry.replicas, minute: entry.minute, current },
      state,
    });
  },
};

function entryAt(
  schedule: readonly ScheduleEntry[],
  nowMs: number,
): ScheduleEntry | undefined {
  let newest: ScheduleEntry | undefined;
  let newestMs = -Infinity;
  for (let back = 0; back <= 7; back++) {
    const midnightMs = Math.floor(nowMs / dayMs) * dayMs - back * dayMs;
    const day = new Date(midnightMs).getUTCDay();
    for (const entry of schedule) {
      const atMs = midnightMs + entry.minute * 60_000;
      const applies = entry.day === undefined || entry.day === day;
      if (applies && atMs <= nowMs && atMs > newestMs) {
        newest = entry;
        newestMs = atMs;
      }
    }
    if (newest) return newest;
  }
  return undefined;
}
