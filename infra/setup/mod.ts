/**
 * Makes a fresh checkout able to run: npm packages, the Debian packages, the
 * native addon. Works before any npm package is there, so it imports none.
 *
 * Looking (`facts.ts`), deciding (`plan.ts`) and doing (`steps.ts`) stand apart.
 */
export {
  kubernetesFolder,
  kubernetesVersion,
  missingPrograms,
} from "./kubernetes_programs.ts";
export { type Profile, profiles } from "./plan.ts";
export { root, setUp } from "./set_up.ts";
