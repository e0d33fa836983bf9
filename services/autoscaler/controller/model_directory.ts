import type { ModelSource, ModelSpec } from "../crds/mod.ts";

/** What routers have to know of a Model: an entry of the bucket `models` in NATS. */
export interface ModelEntry {
  readonly model: string;
  readonly source: ModelSource;
  readonly aliases?: readonly string[];
  readonly draft?: string;
  readonly ttftTargetMs?: number;
}

/** The bucket `models`; only the controller writes to it. */
export interface ModelDirectory {
  put(entry: ModelEntry): Promise<void>;
  remove(model: string): Promise<void>;
  /** Names of all entries. */
  list(): Promise<readonly string[]>;
}

export function entryOf(name: string, spec: ModelSpec): ModelEntry {
  return {
    model: name,
    source: spec.source,
    ...spec.aliases?.length && { aliases: spec.aliases },
    ...spec.draft && { draft: spec.draft.model },
    ttftTargetMs: spec.slo.ttftMs,
  };
}
