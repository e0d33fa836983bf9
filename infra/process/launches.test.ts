import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { launchesOf, startOf, vanished } from "./launches.ts";

type Entry = { parentPid: number; startMs: number; command: string[] };

/** As Linux showed them for `npx -y deno@2.9.3 task up` in a shell. */
const processes: Record<number, Entry> = {
  40: { parentPid: 30, startMs: 9_000, command: ["deno", "task", "up"] },
  30: {
    parentPid: 20,
    startMs: 8_990,
    command: ["sh", "-c", "'deno' task up"],
  },
  20: {
    parentPid: 10,
    startMs: 1_000,
    command: ["npm exec deno@2.9.3 task up   "],
  },
  10: { parentPid: 1, startMs: 10, command: ["bash"] },
};

const read = (table: Record<number, Entry>) => (pid: number) => table[pid];

test("launchesOf() finds the chain from `deno task` to npx and no further", () => {
  deepEqual(launchesOf(40, read(processes), 10_000), [
    { pid: 40, kind: "deno task", startMs: 9_000, ageMs: 1_000 },
    { pid: 30, kind: "shell", startMs: 8_990, ageMs: 1_010 },
    { pid: 20, kind: "npx", startMs: 1_000, ageMs: 9_000 },
  ]);
});

test("launchesOf() leaves out the shell of somebody's script", () => {
  const script: Record<number, Entry> = {
    40: processes[40],
    30: { parentPid: 1, startMs: 1, command: ["sh", "-c", "deno task up"] },
  };
  deepEqual(launchesOf(40, read(script), 10_000).map(({ kind }) => kind), [
    "deno task",
  ]);
});

test("launchesOf() is empty when something else started us", () => {
  deepEqual(launchesOf(10, read(processes), 10_000), []);
});

test("vanished() names the link that ended, also when its pid is used again", () => {
  const launches = launchesOf(40, read(processes), 10_000);
  equal(vanished(launches, read(processes)), undefined);
  const { 20: _npx, ...without } = processes;
  equal(vanished(launches, read(without))?.kind, "npx");
  const again = { ...processes, 20: { ...processes[20], startMs: 9_999 } };
  equal(vanished(launches, read(again))?.kind, "npx");
});

test("startOf() knows this process and no unused pid", () => {
  equal(typeof startOf(process.pid), "number");
  equal(startOf(2 ** 30), undefined);
});
