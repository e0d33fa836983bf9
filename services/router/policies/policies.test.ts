import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "vitest";
import fc from "fast-check";
import {
  type Candidate,
  policies,
  type PolicyName,
  policyNamed,
} from "./mod.ts";
import { imbalanceMax, sequenceCostTokens } from "./prefix_affinity.ts";

function candidate(workerId: string, fields: Partial<Candidate>): Candidate {
  return {
    workerId,
    load: 0,
    blocksFree: 50,
    blocksTotal: 100,
    matchedTokens: 0,
    ...fields,
  };
}

const cases: {
  policy: PolicyName;
  label: string;
  candidates: Record<string, Partial<Candidate>>;
  promptTokens?: number;
  best: string;
}[] = [
  {
    policy: "least-load",
    label: "takes the idlest worker",
    candidates: { a: { load: 3 }, b: { load: 1 }, c: { load: 2 } },
    best: "b",
  },
  {
    policy: "least-load",
    label: "takes the emptier pool between equals",
    candidates: {
      a: { load: 1, blocksFree: 10 },
      b: { load: 1, blocksFree: 90 },
    },
    best: "b",
  },
  {
    policy: "least-load",
    label: "never lets free blocks outweigh a sequence",
    candidates: {
      a: { load: 1, blocksFree: 100 },
      b: { load: 0, blocksFree: 0 },
    },
    best: "b",
  },
  {
    policy: "least-load",
    label: "ignores cached prefixes",
    candidates: { a: { load: 1, matchedTokens: 1_000 }, b: {} },
    best: "b",
  },
  {
    policy: "prefix-affinity",
    label: "takes the worker with the longest prefix",
    candidates: { a: { matchedTokens: 64 }, b: { matchedTokens: 128 }, c: {} },
    best: "b",
  },
  {
    policy: "prefix-affinity",
    label: "takes the idlest when nobody knows the prompt",
    candidates: { a: { load: 2 }, b: { load: 1 } },
    best: "b",
  },
  {
    policy: "prefix-affinity",
    label: "pays for a prefix with sequences as long as it is worth them",
    candidates: {
      a: { load: 2, matchedTokens: 2 * sequenceCostTokens + 16 },
      b: {},
    },
    best: "a",
  },
  {
    policy: "prefix-affinity",
    label: "leaves a prefix that is worth less than its queue",
    candidates: {
      a: { load: 3, matchedTokens: 2 * sequenceCostTokens + 16 },
      b: {},
    },
    best: "b",
  },
  {
    policy: "prefix-affinity",
    label: "goes by load alone beyond the imbalance",
    candidates: { a: { load: imbalanceMax + 1, matchedTokens: 4_000 }, b: {} },
    best: "b",
  },
  {
    policy: "prefix-affinity",
    label: "keeps to the prefix at the imbalance itself",
    candidates: { a: { load: imbalanceMax, matchedTokens: 4_000 }, b: {} },
    best: "a",
  },
];

for (const { policy, label, candidates, promptTokens = 4_096, best } of cases) {
  test(`${policy} ${label}`, () => {
    const list = Object.entries(candidates).map(([id, fields]) =>
      candidate(id, fields)
    );
    const scores = policies[policy](list, { promptTokens });
    equal(list[scores.indexOf(Math.max(...scores))].workerId, best);
  });
}

test("every policy gives each candidate a finite score that does not depend on the order", () => {
  const arbitrary = fc.record({
    workerId: fc.string(),
    load: fc.nat(500),
    blocksFree: fc.nat(100),
    blocksTotal: fc.nat(100),
    matchedTokens: fc.nat(4_096),
  });
  fc.assert(fc.property(
    fc.constantFrom(...Object.values(policies)),
    fc.array(arbitrary, { minLength: 1, maxLength: 8 }),
    (policy, candidates) => {
      const scores = policy(candidates, { promptTokens: 4_096 });
      equal(scores.length, candidates.length);
      equal(scores.every(Number.isFinite), true);
      const reversed = policy(candidates.toReversed(), { promptTokens: 4_096 });
      deepEqual(reversed.toReversed(), scores);
    },
  ));
});

test("policyNamed() lists the known names", () => {
  equal(policyNamed("least-load"), policies["least-load"]);
  throws(() => policyNamed("toString"), {
    message:
      'Cannot find routing policy "toString": known are least-load, prefix-affinity',
  });
});
