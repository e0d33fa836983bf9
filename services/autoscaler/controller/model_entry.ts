import type { ModelEntry } from "../../../lib/bus/types.ts";
import type { ModelSpec } from "../crds/mod.ts";

/** What routers have to know of a Model. */
export function entryOf(name: string, spec: ModelSpec): ModelEntry {
  return {
    model: name,
    source: spec.source,
    ...spec.aliases?.length && { aliases: spec.aliases },
    ...spec.draft && { draft: spec.draft.model },
    ttftTargetMs: spec.slo.ttftMs,
  };
}
