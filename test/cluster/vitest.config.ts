import { defineConfig } from "vitest/config";

/** Tests on a real Kubernetes; `deno task test:cluster` runs them. */
export default defineConfig({
  test: {
    pool: "forks",
    // Each file has a cluster of its own, and two cores are enough for one.
    fileParallelism: false,
    include: ["test/cluster/**/*.test.ts"],
    testTimeout: 120_000,
    // The first cluster on a machine is built from source, which takes minutes.
    hookTimeout: 1_500_000,
  },
});
