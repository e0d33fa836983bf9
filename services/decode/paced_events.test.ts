import { deepEqual, equal } from "node:assert/strict";
import { afterEach, beforeEach, test, vi } from "vitest";
import type { SequenceEvent } from "../../lib/engine/types.ts";
import type { DecodeEvent } from "../../proto/gen/quetzal/v1/decode.ts";
import { PacedEvents, Pacer } from "./paced_events.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function setUp(options = { everyMs: 20, batchMin: 16 }) {
  const pacer = new Pacer(options);
  const sent: string[] = [];
  let slow: Promise<void> | undefined;
  const sequence = (name: string) =>
    new PacedEvents(
      {
        write({ event }: DecodeEvent) {
          const what = event?.$case === "tokens"
            ? event.value.tokens.map(({ id }) => id).join("+")
            : event?.$case;
          sent.push(`${name}:${what}`);
          return slow;
        },
        pending: 0,
      },
      pacer,
      () => 0,
    );
  return {
    sent,
    sequence,
    setSlow: (to: Promise<void> | undefined) => slow = to,
  };
}

const tokens = (
  id: number,
  batchSize: number,
  stepUs = 5,
): SequenceEvent => ({
  kind: "tokens",
  tokens: [{ id, logprob: undefined, top: [] }],
  batchSize,
  stepUs,
});
const finished: SequenceEvent = {
  kind: "finished",
  reason: "length",
  stopTokenId: undefined,
  preemptions: 0,
};

test("tokens of few sequences leave at once", () => {
  const { sent, sequence } = setUp();
  const a = sequence("a");
  for (let id = 1; id < 4; id++) a.write(tokens(id, 15));
  deepEqual(sent, ["a:1", "a:2", "a:3"]);
});

test("tokens of many wait for one another, first ones do not", () => {
  const { sent, sequence } = setUp();
  const [a, b] = [sequence("a"), sequence("b")];
  for (const each of [a, b]) each.write(tokens(1, 64));
  deepEqual(sent, ["a:1", "b:1"]);
  for (const id of [2, 3]) {
    for (const each of [a, b]) each.write(tokens(id, 64));
  }
  vi.advanceTimersByTime(19);
  equal(sent.length, 2);
  vi.advanceTimersByTime(1);
  deepEqual(sent.slice(2), ["a:2+3", "b:2+3"]);
  vi.advanceTimersByTime(100);
  equal(sent.length, 4);
});

test("an end, and a step of few, take along what waits", () => {
  const { sent, sequence } = setUp();
  const [a, b] = [sequence("a"), sequence("b")];
  for (const each of [a, b]) each.write(tokens(1, 64));
  for (const each of [a, b]) each.write(tokens(2, 64));
  a.write(finished);
  b.write(tokens(3, 2));
  deepEqual(sent.slice(2), ["a:2", "a:finished", "b:2", "b:3"]);
  vi.advanceTimersByTime(100);
  equal(sent.length, 6);
});

test("tokens of a step slower than the wait leave at once", () => {
  const { sent, sequence } = setUp();
  const a = sequence("a");
  for (let id = 1; id < 4; id++) a.write(tokens(id, 64, 20_000));
  deepEqual(sent, ["a:1", "a:2", "a:3"]);
});

test("a sequence that was cut sends nothing more", () => {
  const { sent, sequence } = setUp();
  const a = sequence("a");
  for (const id of [1, 2]) a.write(tokens(id, 64));
  a[Symbol.dispose]();
  vi.advanceTimersByTime(100);
  deepEqual(sent, ["a:1"]);
});

test("a slow reader is told of, also when its tokens left by the timer", async () => {
  const { sequence, setSlow } = setUp();
  const { promise, resolve } = Promise.withResolvers<void>();
  const a = sequence("a");
  equal(a.write(tokens(1, 64)), undefined);
  equal(a.write(tokens(2, 64)), undefined);
  setSlow(promise);
  vi.advanceTimersByTime(20);
  setSlow(undefined);
  equal(a.write(tokens(3, 64)), promise);
  resolve();
  await promise;
  await Promise.resolve();
  await Promise.resolve();
  equal(a.write(tokens(4, 64)), undefined);
});

test("0 ms turns it off", () => {
  const { sent, sequence } = setUp({ everyMs: 0, batchMin: 16 });
  const a = sequence("a");
  for (const id of [1, 2, 3]) a.write(tokens(id, 64));
  equal(sent.length, 3);
});
