import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // Deno runs only the `forks` pool; native engines want a process of their own.
    pool: "forks",
    // Two cores: more files at once only take time from one another.
    maxWorkers: 2,
    include: [
      "{lib,services,kernels,infra}/**/*.test.ts",
      "test/**/*.test.ts",
    ],
    // They need a Kubernetes: `deno task test:cluster`.
    exclude: ["**/node_modules/**", "test/cluster/**"],
    // Real processes on cores that others use, too. A test that needs its second try
    // is told in the output; where people work there is none.
    retry: process.env.CI === "true" ? 1 : 0,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
