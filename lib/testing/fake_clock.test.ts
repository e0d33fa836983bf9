import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { createFakeClock } from "./fake_clock.ts";

test("advance() calls due timers in order of their time", () => {
  const clock = createFakeClock(1_000);
  const calls: string[] = [];
  clock.setTimer(20, () => calls.push(`b at ${clock.nowMs()}`));
  clock.setTimer(10, () => calls.push(`a at ${clock.nowMs()}`));
  clock.setTimer(31, () => calls.push("late"));
  clock.advance(30);
  deepEqual(calls, ["a at 1010", "b at 1020"]);
  equal(clock.nowMs(), 1_030);
  equal(clock.timerCount, 1);
});

test("advance() calls timers that callbacks set within the same span", () => {
  const clock = createFakeClock();
  const calls: number[] = [];
  const tick = () => {
    calls.push(clock.nowMs());
    clock.setTimer(10, tick);
  };
  clock.setTimer(10, tick);
  clock.advance(35);
  deepEqual(calls, [10, 20, 30]);
});

test("a disposed timer is not called", () => {
  const clock = createFakeClock();
  {
    using _timer = clock.setTimer(5, () => {
      throw new Error("called");
    });
  }
  clock.advance(10);
});
