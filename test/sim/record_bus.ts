import { once } from "node:events";
import { createWriteStream } from "node:fs";
import type { Bus } from "../../lib/bus/mod.ts";
import type { RecordedLine } from "./trace/recording.ts";

/**
 * Writes traffic, wake-ups and workers of a bus to a file, one JSON object a
 * line, until aborted; returns how many messages it wrote.
 */
export async function recordBus(
  bus: Bus,
  path: string,
  signal: AbortSignal,
): Promise<number> {
  const out = createWriteStream(path);
  let count = 0;
  const write = (line: RecordedLine) => {
    out.write(`${JSON.stringify(line)}\n`);
    count++;
  };
  const drain = async <Message>(
    messages: AsyncIterable<Message>,
    toLine: (message: Message, atMs: number) => RecordedLine,
  ) => {
    for await (const message of messages) write(toLine(message, Date.now()));
  };
  await Promise.all([
    drain(
      bus.subscribeTraffic(signal),
      (message, atMs) => ({ kind: "traffic", atMs, message }),
    ),
    drain(
      bus.subscribeWake(signal),
      (message, atMs) => ({ kind: "wake", atMs, message }),
    ),
    drain(
      bus.watchWorkers(signal),
      (message, atMs) => ({ kind: "worker", atMs, message }),
    ),
  ]);
  out.end();
  await once(out, "finish");
  return count;
}
