/** Samples of one scrape: sums over the label sets of each name. */
export interface Samples {
  /** Sum over all label sets that hold `labels`; `undefined` when there is none. */
  sum(
    name: string,
    labels?: Readonly<Record<string, string>>,
  ): number | undefined;
}

interface Sample {
  readonly name: string;
  readonly labels: string;
  readonly value: number;
}

/** More lines than a worker of a thousand models has. */
const linesMax = 200_000;

/** Reads Prometheus' text format; lines that are none are left out. */
export function parsePrometheus(text: string): Samples {
  const byName = new Map<string, Sample[]>();
  for (const line of text.split("\n", linesMax)) {
    const match = /^([A-Za-z_:][\w:]*)(\{.*\})?\s+(\S+)(?:\s+-?\d+)?\s*$/.exec(
      line,
    );
    if (match === null) continue;
    const [, name, labels = "", number] = match;
    const value = Number(number.replace("+Inf", "Infinity"));
    if (Number.isNaN(value)) continue;
    const list = byName.get(name) ?? [];
    list.push({ name, labels, value });
    byName.set(name, list);
  }
  return {
    sum(name, labels = {}) {
      const wanted = Object.entries(labels).map(([key, value]) =>
        `${key}=${JSON.stringify(value)}`
      );
      const found = (byName.get(name) ?? []).filter((sample) =>
        wanted.every((part) => sample.labels.includes(part))
      );
      if (found.length === 0) return undefined;
      return found.reduce((total, { value }) => total + value, 0);
    },
  };
}
