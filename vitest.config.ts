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
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
