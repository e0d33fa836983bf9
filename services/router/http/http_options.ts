import type { Logger } from "./logger.ts";
import type { Inference } from "../core/mod.ts";
import type { BodyLimits } from "./json_body.ts";

export interface HttpOptions {
  readonly inference: Inference;
  readonly body: BodyLimits;
  /** Comments keep a silent stream open this often. */
  readonly keepAliveMs: number;
  /** The text of `GET /metrics`. */
  readonly metrics: () => Promise<{ contentType: string; text: string }>;
  readonly logger: Logger;
}
