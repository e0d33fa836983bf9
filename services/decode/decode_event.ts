/** Engine events as messages. This runs once per step and sequence: it stays plain. */
import { FinishReason } from "../../proto/gen/quetzal/v1/common.ts";
import type { DecodeEvent } from "../../proto/gen/quetzal/v1/decode.ts";
import type { SequenceEvent } from "../../lib/engine/types.ts";
import { toProtoToken } from "../../lib/worker/mod.ts";

export function toDecodeEvent(
  event: SequenceEvent,
  transferredBytes: number,
): DecodeEvent {
  switch (event.kind) {
    case "tokens":
      return {
        event: {
          $case: "tokens",
          value: {
            tokens: event.tokens.map(toProtoToken),
            batchSize: event.batchSize,
            stepUs: Math.round(event.stepUs),
          },
        },
      };
    case "started":
      return {
        event: {
          $case: "started",
          value: {
            cachedTokens: event.cachedTokens,
            transferredTokens: event.transferredTokens,
            computedTokens: event.computedTokens,
            queueUs: BigInt(Math.round(event.queueUs)),
            prefillUs: BigInt(Math.round(event.prefillUs)),
            transferredBytes: BigInt(transferredBytes),
          },
        },
      };
    case "finished":
      return {
        event: {
          $case: "finished",
          value: {
            reason: event.reason === "stop"
              ? FinishReason.FINISH_REASON_STOP
              : FinishReason.FINISH_REASON_LENGTH,
            stopTokenId: event.stopTokenId,
            preemptions: event.preemptions,
          },
        },
      };
  }
}

/** For a sequence that had all its tokens when it came. */
export const finishedAtLength: DecodeEvent = {
  event: {
    $case: "finished",
    value: {
      reason: FinishReason.FINISH_REASON_LENGTH,
      stopTokenId: undefined,
      preemptions: 0,
    },
  },
};
