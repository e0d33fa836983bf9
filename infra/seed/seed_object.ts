/** One object, as far as it has to be understood; the API server reads the rest. */
export interface SeedObject {
  /** The file it came from. */
  readonly name: string;
  readonly apiVersion: string;
  readonly kind: string;
  readonly yaml: string;
}

export function readSeedObject(name: string, yaml: string): SeedObject {
  const field = (key: string) => {
    const value = new RegExp(`^${key}: *([\\w./-]+) *$`, "m").exec(yaml)?.[1];
    if (value !== undefined) return value;
    throw new Error(
      `Cannot read ${name}: needs a line "${key}: ...", found none`,
    );
  };
  if (/^---/m.test(yaml.replace(/^---\n/, ""))) {
    throw new Error(`Cannot read ${name}: needs one object, found several`);
  }
  return { name, apiVersion: field("apiVersion"), kind: field("kind"), yaml };
}
