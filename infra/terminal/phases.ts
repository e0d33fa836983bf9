import { createProgress, type Progress, seconds } from "./progress.ts";
import { type Output, styleOf } from "./style.ts";

/** A stretch of time with a name. */
export interface Phase {
  readonly name: string;
  readonly ms: number;
  readonly note: string;
}

/** Runs the phases of a command one after the other and remembers their times. */
export interface Phases {
  readonly all: readonly Phase[];
  /** Adds a phase that has passed already. */
  add(phase: Phase): void;
  /** Runs `work` with progress; its answer, if text, is the phase's note. */
  run(
    name: string,
    work: (detail: (text: string) => void) => Promise<string | void>,
  ): Promise<void>;
  /** The table of all phases with their sum. */
  table(title: string): string;
}

export function createPhases(
  output: Output = process.stderr,
  progress: Progress = createProgress(output),
): Phases {
  const all: Phase[] = [];
  const style = styleOf(output);
  return {
    all,
    add: (phase) => void all.push(phase),
    async run(name, work) {
      const startMs = performance.now();
      const step = progress.start(name);
      try {
        const note = await work(step.detail) || "";
        all.push({ name, ms: performance.now() - startMs, note });
        step.done(note);
      } catch (error) {
        step.failed();
        throw error;
      }
    },
    table: (title) =>
      [style.bold(title), ...rows(all)].map((line) => `${line}\n`).join(""),
  };
}

function rows(phases: readonly Phase[]): string[] {
  const total = phases.reduce((sum, phase) => sum + phase.ms, 0);
  const width = Math.max(5, ...phases.map(({ name }) => name.length));
  const row = (name: string, ms: number, note: string) =>
    `  ${name.padEnd(width)}  ${seconds(ms).padStart(11)}  ${note}`.trimEnd();
  return [
    ...phases.map(({ name, ms, note }) => row(name, ms, note)),
    row("total", total, ""),
  ];
}
