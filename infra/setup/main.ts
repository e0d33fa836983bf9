/** `deno task setup [--profile up|test|kernels]` */
import { parseArgs } from "node:util";
import { createPhases, endWithError, UserError } from "../terminal/mod.ts";
import { type Profile, profiles, setUp } from "./mod.ts";

function readProfile(args: readonly string[]): Profile {
  let profile: string;
  try {
    ({ values: { profile } } = parseArgs({
      args: [...args],
      options: { profile: { type: "string", default: "test" } },
    }));
  } catch (error) {
    throw new UserError(`Cannot read the flags: ${(error as Error).message}`, {
      exitCode: 2,
    });
  }
  if (Object.hasOwn(profiles, profile)) return profile as Profile;
  throw new UserError(
    `Cannot set up: --profile is "${profile}", expected one of ${
      Object.keys(profiles).join(", ")
    }`,
    { exitCode: 2 },
  );
}

try {
  const profile = readProfile(process.argv.slice(2));
  const phases = createPhases();
  await setUp(profile, phases);
  process.stderr.write(phases.table(`Set up for "${profile}"`));
} catch (error) {
  endWithError(error);
}
