/**
 * A recording of the bus (`deno task record`) as a trace: what arrived, so that
 * another policy can be asked what it would have done with it.
 *
 * A traffic report says how many requests of a model arrived in its window and
 * how many tokens they had, and of the first ones when and how many each: those
 * arrive as they did. The others are spread evenly over the rest of the window,
 * and what is left of the prompt tokens evenly over them. Output tokens are those
 * per completion of the whole recording, as a window's completions belong to
 * earlier arrivals.
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import type {
  ArrivalSample,
  TrafficReport,
  WakeMessage,
  WorkerChange,
} from "../../../lib/bus/types.ts";
import { listTrace, type Trace, type TraceRequest } from "./trace.ts";

/** One line of a recording; `atMs` is when it was received. */
export type RecordedLine =
  | { readonly kind: "traffic"; atMs: number; message: TrafficReport }
  | { readonly kind: "wake"; atMs: number; message: WakeMessage }
  | { readonly kind: "worker"; atMs: number; message: WorkerChange };

export function readRecordedLines(path: string): RecordedLine[] {
  return readFileSync(path, "utf8").split("\n").filter((line) => line)
    .map((line) => JSON.parse(line) as RecordedLine);
}

export function readRecording(path: string, limitMs: number): Trace {
  const reports = readRecordedLines(path)
    .flatMap((line) => line.kind === "traffic" ? [line.message] : []);
  const models = [...new Set(reports.map((report) => report.model))].sort();
  const outputs = models.map((model) => outputTokensMean(reports, model));
  const firstMs = Math.min(
    ...reports.map((report) => report.atMs - report.windowMs),
  );
  const requests: TraceRequest[] = [];
  for (const report of reports) {
    const model = models.indexOf(report.model);
    const startMs = report.atMs - report.windowMs - firstMs;
    for (const { offsetMs, promptTokens } of arrivalsOf(report)) {
      requests.push({
        atMs: startMs + offsetMs,
        model,
        promptTokens: Math.max(1, promptTokens),
        outputTokens: outputs[model],
      });
    }
  }
  requests.sort((a, b) => a.atMs - b.atMs || a.model - b.model);
  return listTrace(basename(path), models, requests, limitMs);
}

function arrivalsOf(report: TrafficReport): ArrivalSample[] {
  const { arrivals, windowMs } = report;
  const samples = (report.samples ?? []).slice(0, arrivals);
  const left = arrivals - samples.length;
  const beginMs = left > 0 ? samples.at(-1)?.offsetMs ?? 0 : 0;
  const sampled = samples.reduce((sum, each) => sum + each.promptTokens, 0);
  const each = Math.round(Math.max(0, report.promptTokens - sampled) / left);
  const others = Array.from({ length: left }, (_, i) => ({
    offsetMs: beginMs + (i + 0.5) / left * Math.max(0, windowMs - beginMs),
    promptTokens: each,
  }));
  return [...samples, ...others];
}

function outputTokensMean(
  reports: readonly TrafficReport[],
  model: string,
): number {
  let tokens = 0;
  let completions = 0;
  for (const report of reports) {
    if (report.model !== model) continue;
    tokens += report.generatedTokens;
    completions += report.completions;
  }
  return Math.max(1, Math.round(tokens / Math.max(1, completions)));
}
