import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { summarize, summaryLine } from "./test_summary.ts";

const assertion = (status: string) => ({ status });

test("summarize() counts tests, and a file that fails as a whole as one", () => {
  const summary = summarize({
    numPassedTests: 3,
    numFailedTests: 1,
    numPendingTests: 2,
    numTodoTests: 1,
    testResults: [
      { name: "a", status: "passed", assertionResults: [assertion("passed")] },
      { name: "b", status: "failed", assertionResults: [assertion("failed")] },
      {
        name: "c.test.ts",
        status: "failed",
        message: "Cannot find module\n at x",
        assertionResults: [],
      },
    ],
  });
  deepEqual(summary, {
    passed: 3,
    failed: 2,
    skipped: 3,
    faults: ["c.test.ts failed as a whole: Cannot find module"],
  });
  equal(summaryLine(summary), "3 passed, 2 failed, 3 skipped");
});
