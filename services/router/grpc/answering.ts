import { Code } from "../../../lib/errors/mesh_error.ts";
import type { Logger } from "../../../lib/telemetry/mod.ts";
import { clientFailure } from "../core/mod.ts";

/** Runs a client's call; an internal failure goes to the log, and its id to the client. */
export async function answering<T>(
  { logger, requestId }: {
    readonly logger: Pick<Logger, "error">;
    readonly requestId: string;
  },
  run: () => Promise<T> | T,
): Promise<T> {
  try {
    return await run();
  } catch (reason) {
    const failure = clientFailure(reason, requestId);
    if (failure.code === Code.internal) {
      logger.error({ err: reason, requestId }, "A call failed");
    }
    throw failure;
  }
}
