import { deepEqual, equal, match } from "node:assert/strict";
import { test } from "vitest";
import { type Facts, planSetup, type Profile } from "./plan.ts";

const complete: Facts = {
  platform: "linux",
  arch: "x64",
  isRoot: false,
  hasApt: true,
  npmMissing: [],
  hasCompiler: true,
  hasNatsServer: true,
  hasChromium: true,
  hasSimde: true,
  hasNpm: true,
  parityCurrent: true,
  clusterMissing: { control: [], node: [] },
};

const root = { isRoot: true };
const bare = { hasCompiler: false, hasNatsServer: false, npmMissing: ["hono"] };

const cases: {
  label: string;
  profile: Profile;
  facts: Partial<Facts>;
  steps: string[];
  packages?: string[];
}[] = [
  {
    label: "asks only the builder",
    profile: "up",
    facts: {},
    steps: ["addon"],
  },
  { label: "does nothing", profile: "kernels", facts: {}, steps: [] },
  {
    label: "installs all on a bare machine",
    profile: "up",
    facts: { ...bare, ...root },
    steps: ["npm", "debian", "addon"],
    packages: ["g++", "nats-server"],
  },
  {
    label: "does not need NATS to compile",
    profile: "kernels",
    facts: { ...bare, ...root },
    steps: ["npm", "debian"],
    packages: ["g++"],
  },
  {
    label: "installs only what is missing",
    profile: "up",
    facts: { ...root, hasNatsServer: false },
    steps: ["debian", "addon"],
    packages: ["nats-server"],
  },
  {
    label: "gets the emulation of AVX-512 where it can",
    profile: "test",
    facts: { ...root, hasSimde: false },
    steps: ["debian", "addon", "gpu"],
    packages: ["libsimde-dev"],
  },
  {
    label: "gets the browser that tests drive",
    profile: "test",
    facts: { ...root, hasChromium: false },
    steps: ["debian", "addon", "gpu"],
    packages: ["chromium"],
  },
  {
    label: "needs no browser",
    profile: "up",
    facts: { ...root, hasChromium: false },
    steps: ["addon"],
  },
  {
    label: "does without the emulation where it cannot",
    profile: "test",
    facts: { hasSimde: false },
    steps: ["addon", "gpu"],
  },
  {
    label: "gets llama.cpp",
    profile: "test",
    facts: { parityCurrent: false },
    steps: ["addon", "gpu", "parity"],
  },
  {
    label: "leaves llama.cpp out",
    profile: "up",
    facts: { parityCurrent: false },
    steps: ["addon"],
  },
  {
    label: "does not look at nodes",
    profile: "cluster",
    facts: {
      ...root,
      clusterMissing: { control: ["etcd-server"], node: ["runc"] },
    },
    steps: ["debian"],
    packages: ["etcd-server"],
  },
  {
    label: "gets what pods need",
    profile: "cluster-node",
    facts: {
      ...root,
      clusterMissing: { control: [], node: ["containerd", "runc"] },
    },
    steps: ["debian", "addon"],
    packages: ["containerd", "runc"],
  },
];

for (const { label, profile, facts, steps, packages = [] } of cases) {
  test(`planSetup() for "${profile}" ${label}`, () => {
    deepEqual(planSetup(profile, { ...complete, ...facts }), {
      kind: "steps",
      steps,
      debianPackages: packages,
    });
  });
}

test("without root it says what to type", () => {
  const plan = planSetup("up", {
    ...complete,
    hasCompiler: false,
    hasNatsServer: false,
  });
  equal(plan.kind, "impossible");
  if (plan.kind !== "impossible") return;
  equal(
    plan.message,
    "Cannot set up Quetzal: needs g++ and nats-server, " +
      "found no such program, and installing them needs root",
  );
  equal(plan.hints.at(-1)?.trim(), "sudo apt-get install -y g++ nats-server");
});

test("tests without a browser and without root say what to type", () => {
  const plan = planSetup("test", { ...complete, hasChromium: false });
  equal(
    plan.kind === "impossible" ? plan.hints.at(-1)?.trim() : "",
    "sudo apt-get install -y chromium",
  );
});

test("without apt it names the packages", () => {
  const plan = planSetup("up", {
    ...complete,
    ...root,
    hasApt: false,
    hasNatsServer: false,
  });
  match(
    plan.kind === "impossible" ? plan.message : "",
    /needs nats-server.*no apt-get/,
  );
});

test("another processor is refused by name", () => {
  const plan = planSetup("up", { ...complete, arch: "arm64" });
  match(
    plan.kind === "impossible" ? plan.message : "",
    /needs Linux on x86-64 \(x64\), this is linux on arm64/,
  );
});

test("parity tests without npm are refused", () => {
  const plan = planSetup("test", {
    ...complete,
    parityCurrent: false,
    hasNpm: false,
  });
  match(plan.kind === "impossible" ? plan.message : "", /needs npm/);
});
