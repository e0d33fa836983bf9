/** What a model file becomes before it is loaded. */
import type { KvShape, WeightSpec } from "../native.ts";
import type { Program } from "../program.ts";

export interface ModelGraph {
  readonly program: Program;
  readonly weights: readonly WeightSpec[];
  readonly kv: Omit<KvShape, "blockTokens" | "blocks">;
  readonly contextLength: number;
  readonly vocabSize: number;
  /** Columns of the residual stream. */
  readonly hiddenSize: number;
}
