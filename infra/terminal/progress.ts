import { type Output, type Style, styleOf } from "./style.ts";

/** One thing that is being done. */
export interface Step {
  /** What it is at: "file 3 of 12". On a terminal this replaces the last detail. */
  detail(text: string): void;
  done(note?: string): void;
  failed(note?: string): void;
}

export interface Progress {
  start(title: string): Step;
}

const frames = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/**
 * A spinner with seconds on a terminal; elsewhere one line when a step begins
 * and one when it ends, and every ten seconds what it is at.
 */
export function createProgress(output: Output = process.stderr): Progress {
  const style = styleOf(output);
  return {
    start: (title) =>
      output.isTTY
        ? spinner(output, style, title)
        : plainLines(output, style, title),
  };
}

function spinner(output: Output, style: Style, title: string): Step {
  const startMs = performance.now();
  let note = "";
  let frame = 0;
  const draw = () => {
    const time = `${seconds(performance.now() - startMs)}`;
    const room = (output.columns || 80) - title.length - time.length - 6;
    const shown = note.slice(0, Math.max(0, room));
    output.write(
      `\r\x1b[K${frames[frame++ % frames.length]} ${title} ${
        style.dim(`${time} ${shown}`)
      }`,
    );
  };
  draw();
  const timer = setInterval(draw, 100);
  timer.unref();
  const end = (line: string) => {
    clearInterval(timer);
    output.write(`\r\x1b[K${line}\n`);
  };
  return {
    detail: (text) => void (note = text),
    done: (text) => end(doneLine(style, title, startMs, text)),
    failed: (text) => end(failedLine(style, title, startMs, text)),
  };
}

const detailEveryMs = 10_000;

function plainLines(output: Output, style: Style, title: string): Step {
  const startMs = performance.now();
  let note = "";
  output.write(`… ${title}\n`);
  const timer = setInterval(() => {
    const time = seconds(performance.now() - startMs);
    output.write(`  ${title}: ${note || "not done yet"} (${time})\n`);
  }, detailEveryMs);
  timer.unref();
  const end = (line: string) => {
    clearInterval(timer);
    output.write(`${line}\n`);
  };
  return {
    detail: (text) => void (note = text),
    done: (text) => end(doneLine(style, title, startMs, text)),
    failed: (text) => end(failedLine(style, title, startMs, text)),
  };
}

function doneLine(
  style: Style,
  title: string,
  startMs: number,
  note = "",
): string {
  const time = seconds(performance.now() - startMs);
  return `${style.green("✓")} ${title} ${style.dim(`${time} ${note}`.trim())}`;
}

function failedLine(
  style: Style,
  title: string,
  startMs: number,
  note = "",
): string {
  const time = seconds(performance.now() - startMs);
  return `${style.red("✗")} ${title} ${style.dim(time)} ${note}`.trimEnd();
}

/** `0.42 s`, `12.3 s`, `2 min 05 s`. */
export function seconds(ms: number): string {
  if (ms < 10_000) return `${(ms / 1_000).toFixed(2)} s`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const whole = Math.round(ms / 1_000);
  const rest = String(whole % 60).padStart(2, "0");
  return `${Math.floor(whole / 60)} min ${rest} s`;
}
