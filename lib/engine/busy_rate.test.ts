import { equal, ok } from "node:assert/strict";
import { test } from "vitest";
import { BusyRate } from "./busy_rate.ts";

test("a rate counts the time of its work only", () => {
  const rate = new BusyRate();
  equal(rate.perSecond, 0);
  rate.add(100, 0.5);
  equal(rate.perSecond, 200);
  for (let i = 0; i < 100; i++) rate.add(10, 0.05);
  equal(Math.round(rate.perSecond), 200);
});

test("a rate follows what the work has become", () => {
  const rate = new BusyRate();
  rate.add(10_000, 10);
  for (let i = 0; i < 200; i++) rate.add(5, 0.1);
  ok(rate.perSecond < 60, `${rate.perSecond}`);
  ok(rate.perSecond >= 50, `${rate.perSecond}`);
});
