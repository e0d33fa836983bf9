import type { Bus } from "../../../lib/bus/types.ts";

/** Says over NATS what a router would, once a second, until it is disposed. */
export class FakeRouter implements Disposable {
  readonly #bus: Bus;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #held = new Map<string, number>();
  readonly #running = new Map<string, number>();

  constructor(bus: Bus) {
    this.#bus = bus;
    this.#timer = setInterval(() => this.#report(), 500);
  }

  /** Requests wait for a model that nobody serves. */
  hold(model: string, held: number): void {
    this.#held.set(model, held);
    if (held > 0) this.wake(model, held);
    this.#report();
  }

  wake(model: string, held = 1): void {
    this.#bus.publishWake({
      routerId: "router-a",
      model,
      atMs: Date.now(),
      held,
    });
  }

  run(model: string, running: number): void {
    this.#running.set(model, running);
    this.#report();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #report(): void {
    const models = new Set([...this.#held.keys(), ...this.#running.keys()]);
    for (const model of models) {
      const held = this.#held.get(model) ?? 0;
      const running = this.#running.get(model) ?? 0;
      // As routers do: silence when there is nothing to say.
      if (held + running === 0) continue;
      this.#bus.publishTraffic({
        routerId: "router-a",
        model,
        atMs: Date.now(),
        windowMs: 500,
        arrivals: 1,
        completions: 0,
        failures: 0,
        held,
        running,
        promptTokens: 10,
        generatedTokens: 10,
      });
    }
  }
}
