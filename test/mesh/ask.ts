/** Plain HTTP requests to a mesh. */
import { readSse } from "./read_sse.ts";
import type { Mesh } from "./start_mesh.ts";

export interface Question {
  /** The demo model unless set. */
  model?: string;
  content: string;
  max_tokens?: number;
  temperature?: number;
  seed?: number;
  ignore_eos?: boolean;
}

export interface Answer {
  status: number;
  text: string;
  /** Of an answer that is no 200. */
  error?: { message: string; code: string | null; param: string | null };
}

function post(mesh: Mesh, question: Question, more: object): Promise<Response> {
  const { content, ...parameters } = question;
  return fetch(`${mesh.httpUrl}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "quetzal-demo",
      messages: [{ role: "user", content }],
      temperature: 0,
      ...parameters,
      ...more,
    }),
  });
}

export async function ask(mesh: Mesh, question: Question): Promise<Answer> {
  const response = await post(mesh, question, {});
  const body = await response.json();
  if (!response.ok) {
    return { status: response.status, text: "", error: body.error };
  }
  return { status: response.status, text: body.choices[0].message.content };
}

/** The streamed text; `onPiece` is told after each piece, counted from 1. */
export async function streamText(
  mesh: Mesh,
  question: Question,
  onPiece: (count: number) => Promise<void> | void = () => {},
): Promise<string> {
  const response = await post(mesh, question, { stream: true });
  if (!response.ok || !response.body) {
    throw new Error(
      `Cannot stream: status ${response.status}: ${await response.text()}`,
    );
  }
  let text = "";
  let count = 0;
  for await (const data of readSse(response.body)) {
    if (data === "[DONE]") return text;
    const chunk = JSON.parse(data);
    if (chunk.error) {
      throw new Error(`The stream failed: ${chunk.error.message}`);
    }
    const piece = chunk.choices[0]?.delta?.content;
    if (!piece) continue;
    text += piece;
    await onPiece(++count);
  }
  throw new Error("The stream ended without [DONE]");
}

/** Sum of all samples of a metric. */
export async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return text.split("\n")
    .filter((line) => line.startsWith(name) && /[{ ]/.test(line[name.length]))
    .reduce(
      (sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)),
      0,
    );
}

/** Asks again every 20 ms until there is an answer, at most 10 s. */
export async function eventually<T>(
  look: () => Promise<T | undefined>,
): Promise<T> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error("Nothing found within 10 s");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
