import { z } from "zod";
import {
  arrivalSamplesMax,
  type KvDump,
  type KvEvent,
  type ModelEntry,
  type TrafficReport,
  type WakeMessage,
  workerModelStates,
  type WorkerRecord,
} from "./types.ts";

const count = z.int().nonnegative();
const rate = z.number().nonnegative();
const name = z.string().min(1).max(512);
// By hand: as an array of zod strings, 100,000 hashes took 230 ms under Bun, this takes 2.
const hashes = z.custom<readonly string[]>(
  (value) => Array.isArray(value) && value.every(isHash),
  "must be a list of hashes",
);

function isHash(value: unknown): boolean {
  return typeof value === "string" && value.length > 0 && value.length <= 128;
}

/**
 * What a message must hold to be taken in. Fields nobody knows are dropped, so an older
 * reader lives with a newer writer.
 */
export const schemas = {
  worker: z.object({
    workerId: name,
    role: z.enum(["prefill", "decode"]),
    address: name,
    startedAtMs: z.number(),
    draining: z.boolean(),
    metricsAddress: name.optional(),
    podName: name.optional(),
    // Workers of the release before say neither memory nor state: theirs serve.
    memoryBytesTotal: count.default(0),
    memoryBytesFree: count.default(0),
    models: z.array(z.object({
      model: name,
      state: z.enum(workerModelStates).default("running"),
      fingerprint: z.string(),
      contextLength: count,
      blockTokens: count,
      blocksTotal: count,
      blocksFree: count,
      running: count,
      waiting: count,
      weightBytes: count.default(0),
      kvBytes: count.default(0),
      prefillTokensPerS: rate,
      decodeTokensPerS: rate,
    })).readonly(),
  }) satisfies z.ZodType<WorkerRecord>,
  model: z.object({
    model: name,
    source: z.object({
      path: z.string().min(1).max(4_096).optional(),
      url: z.string().min(1).max(4_096).optional(),
      sha256: z.string().regex(/^[0-9a-fA-F]{64}$/, "must be 64 hex digits")
        .optional(),
    }).refine(
      ({ path, url }) => (path === undefined) !== (url === undefined),
      "must have either path or url",
    ).refine(
      ({ url, sha256 }) => url === undefined || sha256 !== undefined,
      "must have a sha256 beside its url",
    ),
    aliases: z.array(name).max(100).readonly().optional(),
    draft: name.optional(),
    ttftTargetMs: rate.optional(),
  }) satisfies z.ZodType<ModelEntry>,
  kv: z.object({
    workerId: name,
    model: name,
    number: count,
    stored: hashes,
    removed: hashes,
  }) satisfies z.ZodType<KvEvent>,
  kvDump: z.object({
    workerId: name,
    models: z.array(z.object({ model: name, number: count, hashes }))
      .readonly(),
  }) satisfies z.ZodType<KvDump>,
  traffic: z.object({
    routerId: name,
    model: name,
    atMs: z.number(),
    windowMs: rate,
    arrivals: count,
    completions: count,
    failures: count,
    held: count,
    running: count,
    promptTokens: count,
    generatedTokens: count,
    samples: z.array(z.object({ offsetMs: rate, promptTokens: count }))
      .max(arrivalSamplesMax).readonly().optional(),
  }) satisfies z.ZodType<TrafficReport>,
  wake: z.object({
    routerId: name,
    model: name,
    atMs: z.number(),
    held: count,
  }) satisfies z.ZodType<WakeMessage>,
};

export type Decoded<T> =
  | { kind: "message"; message: T }
  | { kind: "malformed"; reason: string };

const textDecoder = new TextDecoder("utf-8", { fatal: true });

/** Parses and checks; what cannot be used comes back as a reason, never as a throw. */
export function decodeMessage<T>(
  schema: z.ZodType<T>,
  data: Uint8Array,
): Decoded<T> {
  let value: unknown;
  try {
    value = JSON.parse(textDecoder.decode(data));
  } catch (error) {
    // Anyone may publish anything: the reason goes to the counter and the log.
    return {
      kind: "malformed",
      reason: `not JSON: ${(error as Error).message}`,
    };
  }
  const result = schema.safeParse(value);
  if (result.success) return { kind: "message", message: result.data };
  const [issue] = result.error.issues;
  const field = issue.path.join(".") || "message";
  return { kind: "malformed", reason: `${field}: ${issue.message}` };
}

export function encodeMessage(message: unknown): Uint8Array {
  return textEncoder.encode(JSON.stringify(message));
}

const textEncoder = new TextEncoder();
