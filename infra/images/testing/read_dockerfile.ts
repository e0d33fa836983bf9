/** What a Dockerfile makes of one target, as far as it can be read without Docker. */
export interface DockerTarget {
  readonly layers: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly env: Readonly<Record<string, string>>;
  readonly workingDir: string;
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly args: readonly string[];
}

const empty: DockerTarget = {
  layers: [],
  labels: {},
  env: {},
  workingDir: "",
  user: "",
  entrypoint: [],
  args: [],
};

/** Targets by name; one that builds on another has what that one has. */
export function readDockerfile(text: string): Map<string, DockerTarget> {
  const targets = new Map<string, DockerTarget>();
  let name = "";
  for (const line of logicalLines(text)) {
    const [, instruction, rest] = /^(\w+)\s+(.*)$/.exec(line)!;
    const now = targets.get(name) ?? empty;
    const set = (change: Partial<DockerTarget>) =>
      targets.set(name, { ...now, ...change });
    if (instruction === "FROM") {
      const [from, , target] = rest.split(" ");
      name = target;
      targets.set(name, targets.get(from) ?? empty);
    } else if (instruction === "COPY") {
      const layer = /^--from=\S+ \/layers\/([\w-]+)\/ \/$/.exec(rest)?.[1];
      if (layer) set({ layers: [...now.layers, layer] });
    } else if (instruction === "LABEL") {
      set({ labels: { ...now.labels, ...pairs(rest) } });
    } else if (instruction === "ENV") {
      set({ env: { ...now.env, ...pairs(rest) } });
    } else if (instruction === "WORKDIR") set({ workingDir: rest });
    else if (instruction === "USER") set({ user: rest });
    else if (instruction === "ENTRYPOINT") {
      set({ entrypoint: JSON.parse(rest) });
    } else if (instruction === "CMD") set({ args: JSON.parse(rest) });
  }
  return targets;
}

function logicalLines(text: string): string[] {
  return text.replace(/^#.*$/gm, "").replace(/\\\n/g, " ").split("\n")
    .map((line) => line.trim()).filter((line) => line !== "");
}

/** `A=1 B="two words"` */
function pairs(text: string): Record<string, string> {
  return Object.fromEntries(
    [...text.matchAll(/([\w.]+)=(?:"([^"]*)"|(\S+))/g)]
      .map(([, key, quoted, plain]) => [key, quoted ?? plain]),
  );
}
