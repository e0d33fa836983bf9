import { Code } from "../../../lib/errors/mesh_error.ts";
import type { ChatMessage, Tokenizer } from "../../../lib/tokenizer/types.ts";
import { RequestError } from "./request_error.ts";

/** What the router knows of a model without any worker: how text becomes ids. */
export interface ServedModel {
  readonly name: string;
  readonly tokenizer: Tokenizer;
  /** Renders the chat template and tokenizes; absent: the model's file has no template. */
  readonly encodeChat: ChatEncoder | undefined;
  /** Tokens of prompt and answer together, as the model's file says. */
  readonly contextLength: number;
  /** Values of an embedding. */
  readonly hiddenSize: number;
  /** Seconds since 1970, for `GET /v1/models`. */
  readonly createdS: number;
}

export type ChatEncoder = (
  messages: readonly ChatMessage[],
  options: {
    addGenerationPrompt: boolean;
    /** Told what the template wrote before it is tokenized; may refuse it by throwing. */
    checkText?: (text: string) => void;
  },
) => Int32Array;

/** A model of the bucket: usable, or why not yet. */
export interface CatalogEntry {
  readonly aliases: readonly string[];
  readonly model:
    | { readonly kind: "ready"; readonly served: ServedModel }
    /** Its file is fetched, or could not be read and is tried again. */
    | { readonly kind: "not-ready"; readonly reason: string };
}

/**
 * The models this router serves, by name: those it was started with, which stay, and
 * those of the bucket `models`, which come and go.
 *
 * A name goes before an alias, and a model of the start before one of the bucket. Of two
 * models with the same alias the first by name has it, so that all routers agree.
 */
export class ModelCatalog {
  readonly #fixed: ReadonlyMap<string, ServedModel>;
  readonly #entries = new Map<string, CatalogEntry>();
  /** Alias to name. */
  #aliases: ReadonlyMap<string, string> = new Map();

  constructor(models: readonly ServedModel[]) {
    this.#fixed = new Map(models.map((model) => [model.name, model]));
  }

  /** Those that can be asked now. */
  get all(): readonly ServedModel[] {
    const later = [...this.#entries.values()].flatMap(({ model }) =>
      model.kind === "ready" ? [model.served] : []
    );
    return [...this.#fixed.values(), ...later];
  }

  /** Whether the name is one of the start, which the bucket does not change. */
  isFixed(name: string): boolean {
    return this.#fixed.has(name);
  }

  set(name: string, entry: CatalogEntry): void {
    if (this.isFixed(name)) return;
    this.#entries.set(name, entry);
    this.#indexAliases();
  }

  remove(name: string): void {
    this.#entries.delete(name);
    this.#indexAliases();
  }

  /** The model of that name; an empty name is the only model there is. */
  resolve(name: string): ServedModel {
    const { all } = this;
    if (name === "" && all.length === 1) return all[0];
    const found = this.#fixed.get(name) ?? this.#ready(name);
    if (found) return found;
    const known = this.#names().join(", ") || "none";
    if (name === "") {
      throw new RequestError(
        Code.invalidArgument,
        `Cannot choose a model: known are ${known}`,
        {
          field: "model",
          reason: "invalid_value",
        },
      );
    }
    throw new RequestError(
      Code.notFound,
      `Cannot find model "${name.slice(0, 200)}": known are ${known}`,
      { field: "model", reason: "model_not_found" },
    );
  }

  /** By name or alias; throws `unavailable` for one that is known and cannot be asked yet. */
  #ready(name: string): ServedModel | undefined {
    const entry = this.#entries.get(name) ??
      this.#entries.get(this.#aliases.get(name) ?? "");
    if (entry === undefined) return undefined;
    if (entry.model.kind === "ready") return entry.model.served;
    throw new RequestError(
      Code.unavailable,
      `Cannot ask model "${name.slice(0, 200)}" yet: ${entry.model.reason}`,
      { field: "model", reason: "model_not_ready", retryAfterMs: 5_000 },
    );
  }

  /** Not more than an error can say. */
  #names(): string[] {
    const names = [...this.#fixed.keys(), ...this.#entries.keys()];
    return names.length <= namesMax
      ? names
      : [...names.slice(0, namesMax), `and ${names.length - namesMax} more`];
  }

  #indexAliases(): void {
    const aliases = new Map<string, string>();
    for (const [name, entry] of [...this.#entries].toSorted(byName)) {
      for (const alias of entry.aliases) {
        if (!aliases.has(alias)) aliases.set(alias, name);
      }
    }
    this.#aliases = aliases;
  }
}

const namesMax = 20;

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1;
}
