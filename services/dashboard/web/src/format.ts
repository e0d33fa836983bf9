/** Numbers as operators read them: three figures, the unit that fits, never a bare NaN. */

/** Stands where nothing was measured. */
export const unknown = "–";

export function formatMs(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return unknown;
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${figures(ms * 1_000)} µs`;
  if (ms < 1_000) return `${figures(ms)} ms`;
  if (ms < 60_000) return `${figures(ms / 1_000)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} m ${seconds % 60} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 1_440) return `${Math.floor(minutes / 60)} h ${minutes % 60} m`;
  return `${Math.floor(minutes / 1_440)} d ${
    Math.floor((minutes % 1_440) / 60)
  } h`;
}

export function formatCount(count: number | null | undefined): string {
  if (count === null || count === undefined || !Number.isFinite(count)) {
    return unknown;
  }
  if (Math.abs(count) < 10_000) {
    return Number.isInteger(count) ? grouped(count) : figures(count);
  }
  if (Math.abs(count) < 1e6) return `${figures(count / 1e3)} k`;
  if (Math.abs(count) < 1e9) return `${figures(count / 1e6)} M`;
  return `${figures(count / 1e9)} G`;
}

export function formatBytes(bytes: number | null | undefined): string {
  if (bytes === null || bytes === undefined || !Number.isFinite(bytes)) {
    return unknown;
  }
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit++;
  }
  return `${unit === 0 ? value : figures(value)} ${units[unit]}`;
}

export function formatRate(perS: number | null | undefined, unit: string) {
  if (perS === null || perS === undefined) return unknown;
  return `${formatCount(perS)} ${unit}/s`;
}

export function formatShare(share: number | null | undefined): string {
  if (share === null || share === undefined || !Number.isFinite(share)) {
    return unknown;
  }
  const percent = share * 100;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  if (percent > 0 && percent < 10) return `${Number(percent.toPrecision(2))} %`;
  return `${Math.round(percent)} %`;
}

export function formatClock(atMs: number): string {
  const at = new Date(atMs);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
}

export function formatDate(atMs: number): string {
  const at = new Date(atMs);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ` +
    `${formatClock(atMs)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** "just now", "12 s ago", "3 m ago". */
export function formatAge(atMs: number, nowMs: number): string {
  const seconds = Math.max(0, Math.round((nowMs - atMs) / 1_000));
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} m ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

/** Three figures, no trailing zeros beyond them. */
function figures(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return grouped(Math.round(value));
  return String(Number(value.toPrecision(size < 0.1 ? 2 : 3)));
}

/** By hand: the first use of the browser's own formatting costs 100 ms. */
function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}
