/** An API server in memory, for tests of what speaks to one. */
import type { KubeClient, KubeRequest } from "./kube_client.ts";
import { KubeError } from "./kube_error.ts";

export interface ScriptedKube extends KubeClient {
  readonly requests: KubeRequest[];
}

type Answer = unknown | ((request: KubeRequest) => unknown);

/** Answers calls in the order given; an `Error` is thrown, a function is asked. */
export function scriptedKube(
  answers: Answer[],
  watches: (string[] | Error)[] = [],
): ScriptedKube {
  const requests: KubeRequest[] = [];
  return {
    requests,
    // deno-lint-ignore require-await
    async call<T>(request: KubeRequest): Promise<T> {
      requests.push(request);
      const next = answers.length > 1 ? answers.shift() : answers[0];
      const answer = typeof next === "function" ? next(request) : next;
      if (answer instanceof Error) throw answer;
      return answer as T;
    },
    async *lines(request) {
      requests.push(request);
      const next = watches.shift();
      if (next instanceof Error) throw next;
      yield* next ?? [];
      // The last watch stays open until it is stopped.
      if (watches.length > 0 || request.signal?.aborted) return;
      await new Promise<void>((resolve) =>
        request.signal?.addEventListener("abort", () => resolve(), {
          once: true,
        })
      );
    },
    [Symbol.dispose]() {},
  };
}

export const gone = () =>
  new KubeError({ code: 410, reason: "Expired", message: "too old" });
