import { KeyedChanges } from "./keyed_changes.ts";
import type { ModelChange, ModelEntry } from "./types.ts";

/** Changes of the bucket `models` for one reader, the newest of each model. */
export class ModelChanges extends KeyedChanges<ModelChange> {
  constructor(onEnd: () => void) {
    super(keyOf, onEnd);
  }
}

function keyOf(change: ModelChange): string {
  return change.kind === "put" ? change.entry.model : change.model;
}

/** The entries one reader knows; an equal one is no change. */
export class ModelTable {
  readonly #entries = new Map<string, { entry: ModelEntry; text: string }>();
  readonly #onChange: (change: ModelChange) => void;

  constructor(onChange: (change: ModelChange) => void) {
    this.#onChange = onChange;
  }

  get entries(): ModelEntry[] {
    return [...this.#entries.values()].map(({ entry }) => entry);
  }

  put(entry: ModelEntry): void {
    const text = JSON.stringify(entry);
    if (this.#entries.get(entry.model)?.text === text) return;
    this.#entries.set(entry.model, { entry, text });
    this.#onChange({ kind: "put", entry });
  }

  remove(model: string): void {
    if (this.#entries.delete(model)) this.#onChange({ kind: "gone", model });
  }
}
