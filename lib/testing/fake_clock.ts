import type { Clock } from "../bus/clock.ts";

/** A clock that stands still until told to move. */
export interface FakeClock extends Clock {
  /** Moves on, calling every timer that comes due, in order of its time. */
  advance(byMs: number): void;
  /** Timers not yet called or disposed. */
  readonly timerCount: number;
}

export function createFakeClock(startMs = 0): FakeClock {
  let nowMs = startMs;
  const timers = new Set<{ dueMs: number; callback: () => void }>();

  function nextDue(untilMs: number) {
    return [...timers]
      .filter((timer) => timer.dueMs <= untilMs)
      .sort((a, b) => a.dueMs - b.dueMs)[0];
  }

  return {
    nowMs: () => nowMs,
    setTimer(delayMs, callback) {
      const timer = { dueMs: nowMs + Math.max(0, delayMs), callback };
      timers.add(timer);
      return { [Symbol.dispose]: () => void timers.delete(timer) };
    },
    advance(byMs) {
      const untilMs = nowMs + byMs;
      // A callback may set timers that are due within the same advance.
      for (let due = nextDue(untilMs); due; due = nextDue(untilMs)) {
        timers.delete(due);
        nowMs = due.dueMs;
        due.callback();
      }
      nowMs = untilMs;
    },
    get timerCount() {
      return timers.size;
    },
  };
}
