/** What this machine has, as far as a set-up depends on it. */
export interface Facts {
  /** `process.platform` and `process.arch`. */
  readonly platform: string;
  readonly arch: string;
  readonly isRoot: boolean;
  /** `apt-get` is there. */
  readonly hasApt: boolean;
  /** Names of package.json that node_modules lacks or has in another version. */
  readonly npmMissing: readonly string[];
  readonly hasCompiler: boolean;
  readonly hasNatsServer: boolean;
  /** Debian's Chromium, which the tests of the dashboard's page drive. */
  readonly hasChromium: boolean;
  /** SIMD Everywhere: runs AVX-512 code on machines without it. */
  readonly hasSimde: boolean;
  /** `npm` is there. */
  readonly hasNpm: boolean;
  /** test/parity has packages, and they are those of its lock file. */
  readonly parityCurrent: boolean;
  /** Debian packages that a cluster of either mode lacks. */
  readonly clusterMissing: {
    readonly control: readonly string[];
    readonly node: readonly string[];
  };
}

export type StepName = "npm" | "debian" | "addon" | "gpu" | "parity";

/** What each set-up is for, and what it needs. */
export const profiles = {
  /** To compile `kernels/`. */
  kernels: needing({}),
  /** To run the mesh. */
  up: needing({ nats: true, addon: true }),
  /** To run every test: some ask llama.cpp, some emulate hardware, some need a browser. */
  test: needing({
    nats: true,
    addon: true,
    emulatedGpu: true,
    parity: true,
    simde: true,
    chromium: true,
  }),
  /** To pack the services into images. */
  images: needing({ addon: true }),
  /** To run the API of Kubernetes, and what talks to it. */
  cluster: needing({ nats: true, cluster: "control" }),
  /** To run pods from our images as well. */
  "cluster-node": needing({ nats: true, addon: true, cluster: "node" }),
} as const;

export type Profile = keyof typeof profiles;

interface Needs {
  readonly nats: boolean;
  readonly addon: boolean;
  readonly emulatedGpu: boolean;
  readonly parity: boolean;
  readonly simde: boolean;
  readonly chromium: boolean;
  readonly cluster: "none" | "control" | "node";
}

function needing(those: Partial<Needs>): Needs {
  return {
    nats: false,
    addon: false,
    emulatedGpu: false,
    parity: false,
    simde: false,
    chromium: false,
    cluster: "none",
    ...those,
  };
}

export type Plan =
  | { kind: "impossible"; message: string; hints: readonly string[] }
  | {
    kind: "steps";
    steps: readonly StepName[];
    /** For the step "debian". */
    debianPackages: readonly string[];
  };

/** What has to be done, or why it cannot be done here. */
export function planSetup(profile: Profile, facts: Facts): Plan {
  const needs = profiles[profile];
  if (facts.platform !== "linux" || facts.arch !== "x64") {
    return {
      kind: "impossible",
      message: "Cannot set up Quetzal: needs Linux on x86-64 (x64), " +
        `this is ${facts.platform} on ${facts.arch}`,
      hints: [],
    };
  }
  const debianPackages = [
    ...(facts.hasCompiler ? [] : ["g++"]),
    ...(needs.nats && !facts.hasNatsServer ? ["nats-server"] : []),
    ...(needs.chromium && !facts.hasChromium ? ["chromium"] : []),
    ...(needs.cluster === "none" ? [] : facts.clusterMissing[needs.cluster]),
  ];
  const canInstall = facts.isRoot && facts.hasApt;
  if (debianPackages.length > 0 && !canInstall) {
    return missingByHand(debianPackages, facts);
  }
  // Without it only the tests of the emulation are left out: worth no refusal.
  if (needs.simde && !facts.hasSimde && canInstall) {
    debianPackages.push("libsimde-dev");
  }
  const parityDue = needs.parity && !facts.parityCurrent;
  if (parityDue && !facts.hasNpm) {
    return {
      kind: "impossible",
      message: "Cannot set up the parity tests: needs npm, found none in PATH",
      hints: ["sudo apt-get install -y npm"],
    };
  }
  const due: Record<StepName, boolean> = {
    npm: facts.npmMissing.length > 0,
    debian: debianPackages.length > 0,
    // The builder itself knows, and quickly, whether there is something to do.
    addon: needs.addon,
    gpu: needs.emulatedGpu,
    parity: parityDue,
  };
  const steps = (Object.keys(due) as StepName[]).filter((name) => due[name]);
  return { kind: "steps", steps, debianPackages };
}

function missingByHand(packages: readonly string[], facts: Facts): Plan {
  const obstacle = facts.hasApt
    ? "installing them needs root"
    : "there is no apt-get to install them";
  return {
    kind: "impossible",
    message: `Cannot set up Quetzal: needs ${packages.join(" and ")}, ` +
      `found no such program, and ${obstacle}`,
    hints: facts.hasApt
      ? [
        "Run this, then the same command again:",
        `  sudo apt-get install -y ${packages.join(" ")}`,
      ]
      : [
        `Install ${
          packages.join(" and ")
        } with this system's package manager, ` +
        "then run the same command again.",
      ],
  };
}
