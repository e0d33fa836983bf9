/** `process.env`, or an object in a test. An empty value counts as absent. */
export type Env = Readonly<Record<string, string | undefined>>;

/**
 * Typed fields of one record.
 *
 * Each method returns the value, or notes a fault and returns something harmless, so
 * the whole record is read before anything is reported. A field without a fallback
 * is required; `undefined` as the fallback makes it optional.
 */
export interface ConfigReader {
  integer<F = never>(key: string, range: Range, fallback?: F): number | F;
  number<F = never>(key: string, range: Range, fallback?: F): number | F;
  /** true/false, 1/0, yes/no, on/off. */
  boolean<F = never>(key: string, fallback?: F): boolean | F;
  text<F = never>(key: string, fallback?: F): string | F;
  oneOf<const C extends string, F = never>(
    key: string,
    choices: readonly C[],
    fallback?: F,
  ): C | F;
  /** Comma separated; blanks around the entries are dropped. */
  list<F = never>(key: string, fallback?: F): readonly string[] | F;
  /** `key=value,other=value`, values percent-encoded as in OTEL_EXPORTER_OTLP_HEADERS. */
  pairs<F = never>(
    key: string,
    fallback?: F,
  ): Readonly<Record<string, string>> | F;
  /** `host:port` or `[v6]:port`. */
  address<F = never>(key: string, fallback?: F): string | F;
  /** `http://collector:4318`; only the named schemes pass. */
  url<F = never>(
    key: string,
    schemes: readonly string[],
    fallback?: F,
  ): string | F;
  /** "250ms", "1.5s", "2m", "1h", or a plain number of milliseconds. */
  durationMs<F = never>(key: string, range: Range, fallback?: F): number | F;
  /** "4096", "64KiB", "1.5GiB"; decimal units (kB, MB, GB) as well. */
  bytes<F = never>(key: string, range: Range, fallback?: F): number | F;
  /** A path of the file system; neither existence nor kind is checked here. */
  path<F = never>(key: string, fallback?: F): string | F;
  /** Notes a fault that spans fields: `PORT and METRICS_PORT are both 8080`. */
  fault(sentence: string): void;
}

/** Smallest and largest accepted value, both included. */
export type Range = readonly [min: number, max: number];

/**
 * Runs `read` over the record and throws one `RangeError` with every fault:
 * `Cannot start the router: ROUTER_PORT is "http", expected 1..65535; NATS_URL is missing`.
 *
 * Keys that begin with `prefix` and were not read are faults too: a misspelt key
 * would otherwise leave its default in place without a word.
 */
export function readConfig<C>(
  { what, env, prefix, secrets = [] }: {
    /** "the router": ends up in the error. */
    readonly what: string;
    readonly env: Env;
    /** Keys of this service alone, such as "ROUTER_". */
    readonly prefix?: string;
    /** Keys whose value must not appear in an error. */
    readonly secrets?: readonly string[];
  },
  read: (reader: ConfigReader) => C,
): C {
  const faults: string[] = [];
  const known = new Set<string>();

  function field<T, F>(
    key: string,
    parsing: { expected: string; parse(text: string): T | undefined; zero: T },
    rest: readonly (F | undefined)[],
  ): T | F {
    known.add(key);
    const raw = env[key]?.trim() ?? "";
    if (raw === "") {
      if (rest.length > 0) return rest[0] as F;
      faults.push(`${key} is missing`);
      return parsing.zero;
    }
    const value = parsing.parse(raw);
    if (value !== undefined) return value;
    const shown = secrets.includes(key) ? "not usable" : `"${env[key]}"`;
    faults.push(`${key} is ${shown}, expected ${parsing.expected}`);
    return parsing.zero;
  }

  const within = ([min, max]: Range, parse: (text: string) => number) => ({
    zero: min,
    parse(text: string) {
      const value = parse(text);
      return value >= min && value <= max ? value : undefined;
    },
  });

  const reader: ConfigReader = {
    integer: (key, range, ...rest) =>
      field(key, {
        expected: span(range),
        ...within(range, (text) => /^[+-]?\d+$/.test(text) ? +text : NaN),
      }, rest),
    number: (key, range, ...rest) =>
      field(key, {
        expected: span(range),
        ...within(range, (text) => Number(text)),
      }, rest),
    boolean: (key, ...rest) =>
      field(key, {
        expected: "true or false",
        zero: false,
        parse: (text) => booleans.get(text.toLowerCase()),
      }, rest),
    text: (key, ...rest) =>
      field(
        key,
        { expected: "text", zero: "", parse: (text) => text },
        rest,
      ),
    oneOf: (key, choices, ...rest) =>
      field(key, {
        expected: `one of ${choices.join(", ")}`,
        zero: choices[0],
        parse: (text) => choices.find((choice) => choice === text),
      }, rest),
    list: (key, ...rest) =>
      field(key, {
        expected: "a comma separated list",
        zero: [],
        parse(text): readonly string[] | undefined {
          const entries = text.split(",").map((entry) => entry.trim());
          return entries.includes("") ? undefined : entries;
        },
      }, rest),
    pairs: (key, ...rest) =>
      field(
        key,
        { expected: "key=value,…", zero: {}, parse: parsePairs },
        rest,
      ),
    address: (key, ...rest) =>
      field(key, {
        expected: "host:port",
        zero: "",
        parse: parseAddress,
      }, rest),
    url: (key, schemes, ...rest) =>
      field(key, {
        expected: `a URL with ${schemes.join(", ")}`,
        zero: "",
        parse(text) {
          if (!URL.canParse(text)) return undefined;
          const scheme = new URL(text).protocol.slice(0, -1);
          return schemes.includes(scheme) ? text : undefined;
        },
      }, rest),
    durationMs: (key, range, ...rest) =>
      field(key, {
        expected: `${span(range)} ms, or with a unit: ms, s, m, h`,
        ...within(range, (text) => withUnit(text, durations, "ms")),
      }, rest),
    bytes: (key, range, ...rest) =>
      field(key, {
        expected: `${span(range)} bytes, or with a unit: KiB, MiB, GiB, TiB`,
        ...within(range, (text) => Math.round(withUnit(text, sizes, "B"))),
      }, rest),
    path: (key, ...rest) =>
      field(key, {
        expected: "a path",
        zero: "",
        parse: (text) => text.includes("\0") ? undefined : text,
      }, rest),
    fault: (sentence) => void faults.push(sentence),
  };

  const config = read(reader);
  faults.push(...unknownKeys(env, known, prefix));
  if (faults.length > 0) {
    throw new RangeError(`Cannot start ${what}: ${faults.join("; ")}`);
  }
  return config;
}

const booleans = new Map([
  ...["true", "1", "yes", "on"].map((text) => [text, true] as const),
  ...["false", "0", "no", "off"].map((text) => [text, false] as const),
]);

const durations = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

const sizes = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

function withUnit(
  text: string,
  units: Readonly<Record<string, number>>,
  plain: string,
): number {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text);
  if (!match) return NaN;
  const unit = match[2] || plain;
  return Object.hasOwn(units, unit) ? Number(match[1]) * units[unit] : NaN;
}

function span([min, max]: Range): string {
  return `${min}..${max}`;
}

function parsePairs(text: string): Record<string, string> | undefined {
  const pairs = text.split(",").map((entry) => {
    const [key, ...value] = entry.split("=");
    return [key.trim(), value.join("=").trim()];
  });
  if (pairs.some(([key, value]) => key === "" || value === "")) {
    return undefined;
  }
  try {
    return Object.fromEntries(
      pairs.map(([key, value]) => [key, decodeURIComponent(value)]),
    );
  } catch {
    // A lone percent sign: the caller reports the whole value.
    return undefined;
  }
}

function parseAddress(text: string): string | undefined {
  const match = /^(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})$/.exec(text);
  const port = Number(match?.[1]);
  return port >= 1 && port <= 65_535 ? text : undefined;
}

/** Kubernetes adds `<SERVICE>_PORT_…` and `<SERVICE>_SERVICE_…` keys on its own. */
const kubernetesKey =
  /_(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)$/;

function unknownKeys(
  env: Env,
  known: ReadonlySet<string>,
  prefix: string | undefined,
): string[] {
  if (prefix === undefined) return [];
  const keys = [...known].filter((key) => key.startsWith(prefix)).sort();
  return Object.keys(env)
    .filter((key) => key.startsWith(prefix) && !known.has(key))
    .filter((key) => env[key] !== undefined && !kubernetesKey.test(key))
    .map((key) => `${key} is unknown, known are ${keys.join(", ")}`);
}
