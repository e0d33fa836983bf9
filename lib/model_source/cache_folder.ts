import { homedir } from "node:os";
import { join } from "node:path";

/** Where downloaded models are kept unless QUETZAL_MODEL_CACHE says another folder. */
export const modelCacheDefault = join(homedir(), ".cache", "quetzal", "models");
