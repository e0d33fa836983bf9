import { resolve } from "node:path";

/** Where a mesh keeps its logs, its NATS store and what it says about itself. */
export function dataFolderOf(
  { flag, env, root }: {
    flag?: string;
    env: Readonly<Record<string, string | undefined>>;
    root: string;
  },
): string {
  const chosen = flag ?? (env.QUETZAL_DATA_FOLDER || undefined);
  if (chosen === undefined) return resolve(root, ".quetzal");
  return resolve(env.INIT_CWD || root, chosen);
}
