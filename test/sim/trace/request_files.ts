/** Traces that list every request: Azure's CSV, Mooncake's JSONL, VTC's CSV. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { listTrace, type Trace, type TraceRequest } from "./trace.ts";

/** TIMESTAMP,ContextTokens,GeneratedTokens; one model. */
export function readAzure(path: string, limitMs: number): Trace {
  const lines = linesOf(path).slice(1);
  const firstMs = azureTimeMs(lines[0].split(",")[0]);
  const requests = lines.map((line): TraceRequest => {
    const [time, context, generated] = line.split(",");
    return {
      atMs: azureTimeMs(time) - firstMs,
      model: 0,
      promptTokens: Number(context),
      outputTokens: Math.max(1, Number(generated)),
    };
  });
  return listTrace(basename(path), ["azure-conv"], requests, limitMs);
}

/** `2023-11-16 18:15:46.6805900`: more digits than Date takes. */
function azureTimeMs(text: string): number {
  const [seconds, fraction = "0"] = text.split(".");
  const wholeMs = Date.parse(`${seconds.replace(" ", "T")}Z`);
  return wholeMs + Number(`0.${fraction}`) * 1000;
}

/** One JSON object a line: timestamp (ms), input_length, output_length. */
export function readMooncake(path: string, limitMs: number): Trace {
  const requests = linesOf(path).map((line): TraceRequest => {
    const entry = JSON.parse(line) as {
      timestamp: number;
      input_length: number;
      output_length: number;
    };
    return {
      atMs: entry.timestamp,
      model: 0,
      promptTokens: entry.input_length,
      outputTokens: Math.max(1, entry.output_length),
    };
  });
  return listTrace(basename(path), ["mooncake"], requests, limitMs);
}

/** req_time_s,adapter,prompt_len,output_len; each adapter is one model. */
export function readVtc(path: string, limitMs: number): Trace {
  const rows = linesOf(path).slice(1).map((line) => line.split(","));
  const models = [...new Set(rows.map((row) => row[1]))].sort();
  const requests = rows.map(([time, adapter, prompt, output]) => ({
    atMs: Number(time) * 1000,
    model: models.indexOf(adapter),
    promptTokens: Number(prompt),
    outputTokens: Math.max(1, Number(output)),
  })).sort((a, b) => a.atMs - b.atMs);
  return listTrace(basename(path), models, requests, limitMs);
}

function linesOf(path: string): string[] {
  return readFileSync(path, "utf8").split(/\r?\n/).filter((line) => line);
}
