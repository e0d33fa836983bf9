import { equal, ok } from "node:assert/strict";
import { test } from "vitest";
import { TokenRate } from "./token_rate.ts";

test("perSecond() averages over the last five seconds", () => {
  const rate = new TokenRate();
  for (let second = 100; second < 106; second++) rate.add(50, second * 1000);
  equal(Math.round(rate.perSecond(105_999)), 50);
});

test("perSecond() falls to zero when nothing happens", () => {
  const rate = new TokenRate();
  rate.add(500, 10_000);
  ok(rate.perSecond(12_000) > 0);
  equal(rate.perSecond(16_000), 0);
});
