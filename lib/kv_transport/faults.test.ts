import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "vitest";
import { parseKvFaults, planFault } from "./faults.ts";

test("parseKvFaults() reads kinds with rates", () => {
  deepEqual(parseKvFaults(""), new Map());
  deepEqual(
    parseKvFaults("corrupt:0.5, stall:0.1"),
    new Map([["corrupt", 0.5], ["stall", 0.1]]),
  );
  deepEqual(parseKvFaults("death"), new Map([["death", 1]]));
});

const wrong = [
  { text: "currupt:0.5", says: 'fault "currupt" is unknown' },
  { text: "corrupt:2", says: 'rate of "corrupt" is "2"' },
  { text: "corrupt:x", says: 'rate of "corrupt" is "x"' },
  { text: "corrupt:0.7,stall:0.7", says: "rates add up" },
];

for (const { text, says } of wrong) {
  test(`parseKvFaults() refuses ${text}`, () => {
    const fault = parseKvFaults(text);
    ok(typeof fault === "string" && fault.startsWith(says), String(fault));
  });
}

test("planFault() hits the stated share of transfers, at any of their blocks", () => {
  const rates = new Map([["corrupt", 0.3], ["stall", 0.2]] as const);
  const kinds = new Map<string, number>();
  const positions = new Set<number>();
  // Evenly spread draws in place of random ones: the shares come out exact.
  for (let i = 0; i < 100; i++) {
    const draws = [(i + 0.5) / 100, (i * 7 % 100) / 100];
    const fault = planFault(rates, 5, () => draws.shift()!);
    kinds.set(
      fault?.kind ?? "none",
      (kinds.get(fault?.kind ?? "none") ?? 0) + 1,
    );
    if (fault) positions.add(fault.position);
  }
  deepEqual(kinds, new Map([["corrupt", 30], ["stall", 20], ["none", 50]]));
  deepEqual([...positions].sort(), [0, 1, 2, 3, 4]);
  equal(planFault(new Map(), 5, () => 0), undefined);
});
