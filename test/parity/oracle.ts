import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";

/** An id and its probability. */
export type Likely = readonly [id: number, probability: number];

export interface GreedyAnswer {
  ids: number[];
  /** Natural logarithm of each id's probability. */
  logProbs: number[];
  /** The most likely ids at each step, falling. */
  top: Likely[][];
}

export interface ForcedAnswer {
  /** Most likely next id after each given id. */
  argmax: number[];
  top: Likely[][];
  /** For i < ids.length - 1: log-probability of `ids[i + 1]` after `ids[0..i]`; null is -Infinity. */
  logProbs: (number | null)[];
}

/** llama.cpp in a process of its own; requests are answered in order. */
export interface Oracle extends AsyncDisposable {
  /** Ids of each text, without begin-of-text; `special` parses control tokens. */
  tokenize(
    model: string,
    texts: readonly string[],
    special?: boolean,
  ): Promise<number[][]>;
  detokenize(
    model: string,
    ids: readonly (readonly number[])[],
    special?: boolean,
  ): Promise<string[]>;
  /** The hidden state behind the last of `ids`: those it took, with what it added. */
  embed(request: {
    model: string;
    ids: readonly number[];
    contextSize?: number;
  }): Promise<{ ids: number[]; values: number[] }>;
  /** Generates `n` ids at temperature 0. */
  greedy(request: {
    model: string;
    prompt: readonly number[];
    n: number;
    top?: number;
    contextSize?: number;
  }): Promise<GreedyAnswer>;
  /** The distribution after every id of a given text, in one batch. */
  forced(request: {
    model: string;
    ids: readonly number[];
    top?: number;
    contextSize?: number;
    /** Of its KV cache; default F16. Q8_0 comes with flash attention. */
    kvType?: "F16" | "Q8_0";
  }): Promise<ForcedAnswer>;
}

const folder = fileURLToPath(new URL(".", import.meta.url));

/** Starts the reference process; throws when its packages are not installed. */
export async function startOracle(): Promise<Oracle> {
  if (!existsSync(`${folder}node_modules/node-llama-cpp`)) {
    throw new Error(
      "Cannot start the parity oracle: needs node-llama-cpp, found none. Run: " +
        "(cd test/parity && npm ci --omit=optional --ignore-scripts)",
    );
  }
  const child = spawn("node", ["oracle.mjs"], {
    cwd: folder,
    // Its threads spin while they wait: more of them than idle cores stand in the way.
    env: { ORACLE_THREADS: "1", ...process.env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const ask = talk(child);
  await ask.ready;
  return {
    tokenize: async (model, texts, special = false) =>
      (await ask<{ ids: number[][] }>({
        op: "tokenize",
        model,
        texts,
        special,
      })).ids,
    detokenize: async (model, ids, special = false) =>
      (await ask<{ texts: string[] }>({
        op: "detokenize",
        model,
        ids,
        special,
      })).texts,
    embed: (request) => ask({ op: "embed", ...request }),
    greedy: (request) => ask({ op: "greedy", ...request }),
    forced: (request) => ask({ op: "forced", ...request }),
    [Symbol.asyncDispose]: () => stop(child),
  };
}

interface Waiting {
  resolve: (answer: unknown) => void;
  reject: (reason: Error) => void;
}

/** Pairs each line that goes in with the line that comes out. */
function talk(child: ChildProcess) {
  const waiting: Waiting[] = [];
  let complaints = "";
  let ended: Error | undefined;
  const next = <T>() =>
    new Promise<T>((resolve, reject) => {
      if (ended !== undefined) reject(ended);
      else {waiting.push({
          resolve: resolve as (answer: unknown) => void,
          reject,
        });}
    });
  const fail = (reason: string) => {
    ended ??= new Error(`The parity oracle ended: ${reason}\n${complaints}`);
    for (const { reject } of waiting.splice(0)) reject(ended);
  };
  child.on("error", (error) => fail(error.message));
  child.on("exit", (code, signal) => fail(`code ${code}, signal ${signal}`));
  child.stderr!.on(
    "data",
    (chunk) => complaints = (complaints + chunk).slice(-4000),
  );
  child.stdin!.on("error", (error) => fail(error.message));
  createInterface({ input: child.stdout! }).on("line", (line) => {
    const waiter = waiting.shift();
    if (waiter === undefined) return;
    const answer = JSON.parse(line);
    if (answer.error === undefined) waiter.resolve(answer);
    else {waiter.reject(
        new Error(`The parity oracle refused: ${answer.error}\n${complaints}`),
      );}
  });
  const ask = <T>(request: unknown): Promise<T> => {
    const answer = next<T>();
    child.stdin!.write(`${toAsciiJson(request)}\n`);
    return answer;
  };
  return Object.assign(ask, { ready: next<unknown>() });
}

/** JSON in ASCII: readers of lines also break at U+2028 and its like. */
function toAsciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Ends the process and waits until it is gone. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}
