import { setTimeout as delay } from "node:timers/promises";
import type { UntypedServiceImplementation } from "@grpc/grpc-js";

/** A call as the server sees it; one that streams its answer knows when that has ended. */
interface AnsweringCall {
  on(event: "cancelled", listener: () => void): unknown;
  readonly writableEnded?: boolean;
}

type Handler = (
  call: AnsweringCall,
  callback?: (...answer: unknown[]) => void,
) => void;

const everyMs = 20;

/**
 * Answers that have ended and are not with their readers yet. A session that is asked
 * to close gracefully should wait for them; in Bun and in Deno it closes at once.
 */
export class OpenAnswers {
  readonly #open = new Set<AnsweringCall>();
  readonly #answered = new WeakSet<AnsweringCall>();

  /** The same methods, whose calls are watched. */
  watch(methods: UntypedServiceImplementation): UntypedServiceImplementation {
    return Object.fromEntries(
      Object.entries(methods).map(([name, method]) => [
        name,
        this.#watched(method as unknown as Handler) as never,
      ]),
    );
  }

  /** Resolves when all are, or after `boundMs`. */
  async written(boundMs: number): Promise<void> {
    const endMs = performance.now() + boundMs;
    while (this.#isAnyEnded() && performance.now() < endMs) {
      await delay(everyMs);
    }
  }

  #watched(method: Handler): Handler {
    return (call, callback) => {
      this.#open.add(call);
      // Emitted when the call's HTTP/2 stream has closed, also behind a whole answer.
      call.on("cancelled", () => this.#open.delete(call));
      method(
        call,
        callback && ((...answer) => {
          this.#answered.add(call);
          callback(...answer);
        }),
      );
    };
  }

  #isAnyEnded(): boolean {
    return [...this.#open].some((call) =>
      call.writableEnded || this.#answered.has(call)
    );
  }
}
