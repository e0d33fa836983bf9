import type { ServerResponse } from "node:http";
import type { ErrorBody } from "./http_error.ts";

export interface SseOptions {
  readonly headers: Readonly<Record<string, string>>;
  /** A comment is sent this often while nothing else was, so that proxies keep the connection. */
  readonly keepAliveMs: number;
}

/**
 * Server-sent events on a raw response.
 *
 * It starts with the first event or the first keep-alive comment; until then a
 * failure can still become a proper status. The writes go straight to the
 * `node:http` response: a web stream in between costs several promises per token.
 */
export class SseResponse implements Disposable {
  readonly #outgoing: ServerResponse;
  readonly #options: SseOptions;
  readonly #timer: ReturnType<typeof setInterval>;
  #quiet = true;
  #drained: Promise<void> | undefined;

  constructor(outgoing: ServerResponse, options: SseOptions) {
    this.#outgoing = outgoing;
    this.#options = options;
    this.#timer = setInterval(() => this.#keepAlive(), options.keepAliveMs);
  }

  /** Too late for a status. */
  get started(): boolean {
    return this.#outgoing.headersSent;
  }

  /** Sends whole events; a promise asks to wait until the client has read some. */
  write(events: string): Promise<void> | undefined {
    const outgoing = this.#outgoing;
    if (!outgoing.headersSent) this.#start();
    this.#quiet = false;
    if (outgoing.destroyed || outgoing.write(events)) return undefined;
    this.#drained ??= this.#waitForDrain();
    return this.#drained;
  }

  end(): void {
    this.write("data: [DONE]\n\n");
    this.#outgoing.end();
  }

  /** The last event of a stream that failed after its start. */
  fail(body: ErrorBody): void {
    this.write(`data: ${JSON.stringify(body)}\n\n`);
    this.#outgoing.end();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #start(): void {
    this.#outgoing.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
      ...this.#options.headers,
    });
  }

  #keepAlive(): void {
    const quiet = this.#quiet;
    this.#quiet = true;
    if (quiet && !this.#outgoing.destroyed && this.#drained === undefined) {
      this.write(": waiting\n\n");
      this.#quiet = true;
    }
  }

  #waitForDrain(): Promise<void> {
    const outgoing = this.#outgoing;
    return new Promise((resolve) => {
      const done = () => {
        outgoing.off("drain", done);
        outgoing.off("close", done);
        this.#drained = undefined;
        resolve();
      };
      outgoing.on("drain", done);
      outgoing.on("close", done);
    });
  }
}
