import { equal, ok } from "node:assert/strict";
import { test } from "vitest";
import { createFakeClock } from "../../../lib/testing/mod.ts";
import { ProgressWatch, StalledError } from "./progress_watch.ts";

function setUp() {
  const clock = createFakeClock();
  const request = new AbortController();
  const { signal } = request;
  const watch = new ProgressWatch({
    clock,
    stallMs: 1_000,
    signal,
    workerId: "w",
  });
  return { clock, request, watch };
}

test("a call that brings nothing behind its first event is given up", () => {
  const { clock, watch } = setUp();
  clock.advance(60_000);
  equal(watch.signal.aborted, false, "it may wait its turn");
  watch.heard();
  clock.advance(1_499);
  equal(watch.signal.aborted, false);
  clock.advance(1);
  ok(watch.signal.reason instanceof StalledError);
});

test("a call that goes on is left alone, and its timer ends with it", () => {
  const { clock, watch } = setUp();
  for (let event = 0; event < 20; event++) {
    watch.heard();
    clock.advance(900);
  }
  equal(watch.signal.aborted, false);
  watch[Symbol.dispose]();
  equal(clock.timerCount, 0);
});

test("the request's end is the call's", () => {
  const { request, watch } = setUp();
  request.abort(new Error("gone"));
  equal(watch.signal.reason.message, "gone");
});

test("a call that has not begun is given up with another one of its worker", () => {
  const { watch } = setUp();
  watch.workerHangs(1_200);
  const { reason } = watch.signal;
  ok(reason instanceof StalledError && reason.silentMs === 1_200);
});

test("a call that has begun is judged by itself", () => {
  const { watch } = setUp();
  watch.heard();
  watch.workerHangs(1_200);
  equal(watch.signal.aborted, false);
});
