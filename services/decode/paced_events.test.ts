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
  const slowTold: string[] = [];
  let slow: Promise<void> | undefined;
  const sequence = (name: string) => {
    const sink = {
      write({ event }: DecodeEvent) {
        const what = event?.$case === "tokens"
          ? event.value.tokens.map(({ id }) => id).join("+")
          : event?.$case;
        sent.push(`${name}:${what}`);
        return slow;
      },
      pending: 0,
    };
    const onSlow = () => slowTold.push(name);
    return new PacedEvents({ sink, pacer, transferredBytes: () => 0, onSlow });
  };
  return {
    sent,
    slowTold,
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
  deepEqual(sent.slice(2), ["a:2", "a:finished", "b:2+3"]);
  vi.advanceTimersByTime(100);
  equal(sent.length, 5);
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

test("what a slow reader has not taken waits, tokens with tokens, and it is told of", async () => {
  const { sent, slowTold, sequence, setSlow } = setUp();
  const { promise, resolve } = Promise.withResolvers<void>();
  const a = sequence("a");
  a.write(tokens(1, 64));
  a.write(tokens(2, 64));
  setSlow(promise);
  vi.advanceTimersByTime(20);
  deepEqual(sent, ["a:1", "a:2"]);
  deepEqual(slowTold, ["a"]);
  setSlow(undefined);
  a.write(tokens(3, 64));
  vi.advanceTimersByTime(20);
  a.write(tokens(4, 1));
  a.write(finished);
  equal(sent.length, 2);
  resolve();
  await a.read();
  deepEqual(sent.slice(2), ["a:3+4", "a:finished"]);
  deepEqual(slowTold, ["a"]);
});

test("a reader that falls behind again is waited for again", async () => {
  const { sent, slowTold, sequence, setSlow } = setUp();
  const waits = [1, 2].map(() => Promise.withResolvers<void>());
  const a = sequence("a");
  setSlow(waits[0].promise);
  a.write(tokens(1, 1));
  a.write(tokens(2, 1));
  setSlow(waits[1].promise);
  waits[0].resolve();
  await vi.waitFor(() => deepEqual(sent, ["a:1", "a:2"]));
  let isRead = false;
  const read = a.read().then(() => isRead = true);
  await Promise.resolve();
  equal(isRead, false);
  waits[1].resolve();
  await read;
  deepEqual(slowTold, ["a", "a"]);
});

test("0 ms turns it off", () => {
  const { sent, sequence } = setUp({ everyMs: 0, batchMin: 16 });
  const a = sequence("a");
  for (const id of [1, 2, 3]) a.write(tokens(id, 64));
  equal(sent.length, 3);
});
