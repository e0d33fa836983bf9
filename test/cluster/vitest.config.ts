import { defineConfig } from "vitest/config";

/** Tests on a real Kubernetes; `deno task test:cluster` runs them. */
export default defineConfig({
  test: {
    pool: "forks",
    // Each file has a cluster of its own, and two cores are enough for one.
    fileParallelism: false,
    include: ["test/cluster/**/*.test.ts"],
    // Real processes on cores that others use, too. A test that needs its second try
    // is told in the output; where people work there is none.
    retry: process.env.CI === "true" ? 1 : 0,
    testTimeout: 120_000,
    // The first cluster on a machine is built from source, which takes minutes.
    hookTimeout: 1_500_000,
  },
});
