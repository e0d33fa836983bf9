import { launchesOf } from "../process/mod.ts";
import { type Phases, UserError } from "../terminal/mod.ts";
import { readFacts } from "./facts.ts";
import { planSetup, type Profile } from "./plan.ts";
import { steps } from "./steps.ts";

/** The checkout this file belongs to. */
export const root = new URL("../..", import.meta.url).pathname.replace(
  /\/$/,
  "",
);

const policyFile = "/usr/sbin/policy-rc.d";

/** Does what the profile lacks, as phases; quick when that is nothing. */
export async function setUp(profile: Profile, phases: Phases): Promise<void> {
  addLaunchPhases(phases);
  const plan = planSetup(profile, readFacts(root));
  if (plan.kind === "impossible") {
    throw new UserError(plan.message, { hints: plan.hints });
  }
  const { debianPackages } = plan;
  for (const name of plan.steps) {
    const { title, run } = steps[name];
    await phases.run(
      title,
      (detail) => run({ root, debianPackages, policyFile, detail }),
    );
  }
}

/**
 * npx fetched Deno, and `deno task` the npm packages, before our first line ran:
 * the start times of those processes say how long that took.
 */
function addLaunchPhases(phases: Phases): void {
  const launches = launchesOf();
  const npx = launches.find(({ kind }) => kind === "npx");
  const task = launches.findLast(({ kind }) => kind === "deno task");
  const ownMs = performance.now();
  if (npx && task) {
    phases.add({ name: "Deno by npx", ms: npx.ageMs - task.ageMs, note: "" });
  }
  if (task) {
    const ms = Math.max(0, task.ageMs - ownMs);
    phases.add({ name: "npm packages by Deno", ms, note: "" });
  }
}
