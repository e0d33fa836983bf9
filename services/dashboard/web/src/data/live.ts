/** The event stream of the service: one connection for the whole page, shared as signals. */
import { signal } from "@preact/signals";
import type {
  MeshState,
  ModelList,
  ServerEvents,
  Session,
  TraceSummary,
} from "../../../api_types.ts";
import { type ApiFailure, getJson } from "./api.ts";

export const session = signal<Session | undefined>(undefined);
export const sessionFailure = signal<ApiFailure | undefined>(undefined);
export const mesh = signal<MeshState | undefined>(undefined);
export const models = signal<ModelList | undefined>(undefined);
export const connection = signal<"connecting" | "live" | "lost">("connecting");
/** The clock of the server, in whole seconds: for ages. */
export const nowMs = signal(Date.now());

const listeners = new Set<(traces: readonly TraceSummary[]) => void>();
let source: EventSource | undefined;
let clockSkewMs = 0;

/** Tells of new and changed traces until the answer is called. */
export function onTraces(
  listener: (traces: readonly TraceSummary[]) => void,
): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export async function loadSession(): Promise<void> {
  try {
    takeSession(await getJson<Session>("/api/session"));
    sessionFailure.value = undefined;
  } catch (failure) {
    sessionFailure.value = failure as ApiFailure;
    setTimeout(loadSession, 3_000);
  }
}

export function takeSession(next: Session): void {
  clockSkewMs = next.nowMs - Date.now();
  nowMs.value = serverNow();
  session.value = next;
  if (next.authenticated) connect();
  else disconnect();
}

/** What the server's clock shows. */
export function serverNow(): number {
  return Date.now() + clockSkewMs;
}

setInterval(() => nowMs.value = serverNow(), 1_000);

function connect(): void {
  if (source && source.readyState !== EventSource.CLOSED) return;
  connection.value = "connecting";
  source = new EventSource("/api/events");
  on("hello", takeSession);
  on("mesh", (state) => mesh.value = state);
  on("models", (list) => models.value = list);
  on("traces", (traces) => {
    for (const listener of listeners) listener(traces);
  });
  const opened = source;
  opened.onopen = () => connection.value = "live";
  opened.onerror = () => {
    connection.value = "lost";
    // The browser comes back by itself unless the answer was a refusal.
    if (opened.readyState === EventSource.CLOSED) {
      setTimeout(loadSession, 3_000);
    }
  };
}

function disconnect(): void {
  source?.close();
  source = undefined;
}

function on<K extends keyof ServerEvents>(
  kind: K,
  take: (data: ServerEvents[K]) => void,
): void {
  source?.addEventListener(kind, (event) => {
    take(JSON.parse((event as MessageEvent<string>).data));
  });
}
