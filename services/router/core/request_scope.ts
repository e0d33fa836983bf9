import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";

/**
 * The life of one client request: ends at its deadline, or when the client goes,
 * or when the router cuts it off. Everything done for the request takes `signal`.
 */
export class RequestScope implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout>;
  /** `Date.now()` at which the client, or our own limit, stops waiting. */
  readonly deadlineMs: number;

  readonly #onEnd: () => void;

  constructor(deadlineMs: number, onEnd: () => void = () => {}) {
    this.#onEnd = onEnd;
    this.deadlineMs = deadlineMs;
    const leftMs = Math.max(0, deadlineMs - Date.now());
    this.#timer = setTimeout(() => {
      this.abort(
        new MeshError(
          Code.deadlineExceeded,
          "Cannot finish the answer: its deadline has passed",
        ),
      );
    }, leftMs);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason: MeshError): void {
    this.#controller.abort(reason);
  }

  /** The client closed its connection or cancelled its call. */
  clientGone(): void {
    this.abort(new MeshError(Code.cancelled, "The client has gone"));
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#onEnd();
  }
}
