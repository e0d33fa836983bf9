/** Time as a dependency, so that tests move it by hand. */
export interface Clock {
  /** Milliseconds; only differences mean anything. */
  nowMs(): number;
  /** Calls back once after `delayMs`; disposing it first prevents the call. */
  setTimer(delayMs: number, callback: () => void): Disposable;
}

/**
 * The clock of the machine. It never runs backwards, and a timer alone does not
 * keep the process alive.
 */
export const systemClock: Clock = {
  nowMs: () => performance.now(),
  setTimer(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};
