/** The part of vitest's JSON report that we read. */
export interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  /** Skipped by the test file or a filter. */
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: "passed" | "failed";
    readonly message?: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

export interface Summary {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** What failed besides tests. */
  readonly faults: readonly string[];
}

/** A file that fails as a whole, such as one that cannot be loaded, counts as one failed test. */
export function summarize(report: Report): Summary {
  const brokenFiles = report.testResults.filter((
    { status, assertionResults },
  ) =>
    status === "failed" &&
    !assertionResults.some(({ status }) => status === "failed")
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + brokenFiles.length,
    skipped: report.numPendingTests + report.numTodoTests,
    faults: brokenFiles.map(({ name, message }) =>
      `${name} failed as a whole: ${message?.split("\n")[0] || "see above"}`
    ),
  };
}

/** The last line of every test command. */
export function summaryLine({ passed, failed, skipped }: Summary): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}
