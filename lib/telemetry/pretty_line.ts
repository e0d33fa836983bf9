/** A JSON log line for people: `12:00:01.123 INFO  router: listening port=8080`. */
export function prettyLine(json: string): string {
  const { time, level, service, msg, err, trace_id, span_id, ...rest } = JSON
    .parse(json);
  const fields = Object.entries(rest).map(([key, value]) =>
    ` ${key}=${typeof value === "string" ? value : JSON.stringify(value)}`
  ).join("");
  const clock = String(time).slice(11, 23);
  const ids = trace_id ? ` trace=${trace_id.slice(0, 8)}/${span_id}` : "";
  const label = String(level).toUpperCase().padEnd(5);
  const stack = err ? `\n  ${String(err.stack ?? err.message)}` : "";
  return `${clock} ${label} ${service}: ${msg ?? ""}${fields}${ids}${stack}\n`;
}
