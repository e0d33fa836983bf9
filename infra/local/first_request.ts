import { UserError } from "../terminal/mod.ts";

/** One tiny completion over HTTP: the proof that the whole path works. Answers its trace's id. */
export async function firstRequest(
  { httpUrl, model, timeoutMs = 60_000, signal }: {
    httpUrl: string;
    model: string;
    timeoutMs?: number;
    signal?: AbortSignal;
  },
): Promise<string | undefined> {
  const timeout = AbortSignal.timeout(timeoutMs);
  const response = await fetch(`${httpUrl}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, prompt: "Hello", max_tokens: 4 }),
    signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
  });
  const text = await response.text();
  if (response.ok && tokensIn(text) > 0) {
    return response.headers.get("x-trace-id") ?? undefined;
  }
  throw new UserError(
    `Cannot get a first answer from "${model}": needs at least one token, ` +
      `found HTTP ${response.status} ${text.slice(0, 500)}`,
  );
}

function tokensIn(text: string): number {
  const { usage } = JSON.parse(text) as {
    usage?: { completion_tokens?: number };
  };
  return usage?.completion_tokens ?? 0;
}
