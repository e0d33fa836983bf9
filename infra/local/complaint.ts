/** pino's numbers: 50 is error, 60 fatal. */
const errorLevel = 50;

/**
 * What a log line has to say to the person at the terminal: the text of an error,
 * `undefined` for everything else. Knows pino's JSON and the NATS server's lines.
 */
export function complaintOf(line: string): string | undefined {
  const nats = /\[(?:ERR|FTL)\] (.*)$/.exec(line);
  if (nats) return nats[1];
  if (!line.startsWith("{")) return undefined;
  const entry = parse(line);
  if (!entry || !isError(entry.level)) return undefined;
  const error = entry.err as { message?: unknown } | undefined;
  const parts = [entry.msg, error?.message].filter((part) =>
    typeof part === "string" && part !== ""
  );
  return [...new Set(parts)].join(": ") || line;
}

function isError(level: unknown): boolean {
  return level === "error" || level === "fatal" || Number(level) >= errorLevel;
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(line);
  } catch {
    // Not a log entry; it stays in the log file as it is.
    return undefined;
  }
}
