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
  /** Seconds since 1970, for `GET /v1/models`. */
  readonly createdS: number;
}

export type ChatEncoder = (
  messages: readonly ChatMessage[],
  options: { addGenerationPrompt: boolean },
) => Int32Array;

/** The models this router was told to serve, by name. */
export class ModelCatalog {
  readonly #models: ReadonlyMap<string, ServedModel>;

  constructor(models: readonly ServedModel[]) {
    this.#models = new Map(models.map((model) => [model.name, model]));
  }

  get all(): readonly ServedModel[] {
    return [...this.#models.values()];
  }

  /** The model of that name; an empty name is the only model there is. */
  resolve(name: string): ServedModel {
    const found = name === "" && this.#models.size === 1
      ? this.all[0]
      : this.#models.get(name);
    if (found) return found;
    const known = [...this.#models.keys()].join(", ");
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
}
