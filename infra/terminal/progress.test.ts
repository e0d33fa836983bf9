import { deepEqual, equal, match } from "node:assert/strict";
import { afterEach, beforeEach, test, vi } from "vitest";
import { createPhases } from "./phases.ts";
import { createProgress, seconds } from "./progress.ts";
import { endWithError, UserError } from "./user_error.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function screen(isTTY: boolean) {
  const written: string[] = [];
  return {
    isTTY,
    columns: 40,
    write: (text: string) => void written.push(text),
    text: () => written.join(""),
  };
}

test("away from a terminal a step is a line at its begin, every ten seconds, and at its end", () => {
  const output = screen(false);
  const step = createProgress(output).start("native addon");
  for (let file = 1; file <= 25; file++) {
    step.detail(`file ${file} of 25`);
    vi.advanceTimersByTime(1_000);
  }
  step.done("25 files");
  deepEqual(output.text().trimEnd().split("\n"), [
    "… native addon",
    "  native addon: file 10 of 25 (10.0 s)",
    "  native addon: file 20 of 25 (20.0 s)",
    "✓ native addon 25.0 s 25 files",
  ]);
});

test("on a terminal a step keeps to one line of it", () => {
  const output = screen(true);
  const step = createProgress(output).start("native addon");
  step.detail("x".repeat(200));
  vi.advanceTimersByTime(250);
  step.failed();
  const frames = output.text().split("\r");
  // deno-lint-ignore no-control-regex
  const plain = frames.map((frame) => frame.replace(/\x1b\[\d*[mK]/g, ""));
  equal(plain.every((frame) => frame.trimEnd().length <= 40), true);
  match(plain.at(-1)!, /^✗ native addon 0\.25 s\n$/);
});

test("the table of phases adds up", async () => {
  const output = screen(false);
  const phases = createPhases(output);
  phases.add({ name: "npx", ms: 1_500, note: "" });
  await phases.run("build", async (detail) => {
    detail("one");
    await vi.advanceTimersByTimeAsync(2_000);
    return "3 files";
  });
  deepEqual(phases.table("Times").trimEnd().split("\n"), [
    "Times",
    "  npx         1.50 s",
    "  build       2.00 s  3 files",
    "  total       3.50 s",
  ]);
});

const durations = [
  { ms: 4, want: "0.00 s" },
  { ms: 9_994, want: "9.99 s" },
  { ms: 59_900, want: "59.9 s" },
  { ms: 125_000, want: "2 min 05 s" },
];

for (const { ms, want } of durations) {
  test(`seconds(${ms}) is ${want}`, () => equal(seconds(ms), want));
}

test("an error its reader can mend is shown without a stack, with its hints", () => {
  const output = screen(false);
  const before = process.exitCode;
  endWithError(
    new UserError("Cannot x", { hints: ["do y"], exitCode: 2 }),
    output,
  );
  const { exitCode } = process;
  process.exitCode = before;
  equal(exitCode, 2);
  equal(output.text(), "error: Cannot x\n  do y\n");
});
