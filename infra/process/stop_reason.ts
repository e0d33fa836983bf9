import { readFileSync } from "node:fs";
import { launchesOf, vanished } from "./launches.ts";

/** Why a long-running command is to end. */
export type StopReason = string;

export interface StopWatch extends Disposable {
  /** Resolves with the first reason to stop. */
  readonly first: Promise<StopReason>;
  /** Resolves when asked again, a second or more later: somebody does not want to wait. */
  readonly second: Promise<StopReason>;
}

const lookEveryMs = 500;

/** One Ctrl-C comes as several signals: the terminal's, and that of `deno task`. */
const echoMs = 1_000;

/**
 * Watches for Ctrl-C, SIGTERM, a closed terminal, and the end of whoever
 * launched us: npx hands no signal on, it just goes.
 */
export function watchForStop(): StopWatch {
  const first = Promise.withResolvers<StopReason>();
  const second = Promise.withResolvers<StopReason>();
  let firstMs: number | undefined;
  const ask = (reason: StopReason) => {
    firstMs ??= performance.now();
    first.resolve(reason);
    if (performance.now() - firstMs >= echoMs) second.resolve(reason);
  };
  const listeners = stopSignals().map(([name, reason]) => {
    const listener = () => ask(reason);
    process.on(name, listener);
    return () => void process.off(name, listener);
  });
  const launches = launchesOf();
  const timer = setInterval(() => {
    const gone = vanished(launches);
    if (!gone) return;
    clearInterval(timer);
    if (firstMs !== undefined) return;
    ask(`${gone.kind} (pid ${gone.pid}), which started this, has ended`);
  }, lookEveryMs);
  return {
    first: first.promise,
    second: second.promise,
    [Symbol.dispose]() {
      clearInterval(timer);
      for (const off of listeners) off();
    },
  };
}

function stopSignals(): [NodeJS.Signals, StopReason][] {
  return [
    ["SIGINT", "Ctrl-C"],
    ["SIGTERM", "SIGTERM"],
    // `nohup` has it ignored, and wants us to go on without a terminal.
    ...(ignoresHangup() ? [] : [
      ["SIGHUP", "the terminal was closed"] as [NodeJS.Signals, StopReason],
    ]),
  ];
}

function ignoresHangup(): boolean {
  const status = readFileSync("/proc/self/status", "utf8");
  const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0";
  return (BigInt(`0x${mask}`) & 1n) === 1n;
}
