import { useEffect, useState } from "preact/hooks";
import type { TraceDetail } from "../../../api_types.ts";
import { ApiFailure, getJson } from "./api.ts";
import { serverNow } from "./live.ts";

export interface FollowedTrace {
  readonly detail: TraceDetail | undefined;
  readonly failure: ApiFailure | undefined;
  /** More may come. */
  readonly following: boolean;
}

/** A trace that ended so long ago has all its spans. */
const settledMs = 60_000;

/** Shows a trace and follows it while it may still change, also before its first span. */
export function useTrace(traceId: string | undefined): FollowedTrace {
  const [state, setState] = useState<
    { traceId?: string; detail?: TraceDetail; failure?: ApiFailure }
  >({});
  const [following, setFollowing] = useState(false);
  useEffect(() => {
    if (traceId === undefined) return;
    const abort = new AbortController();
    const path = `/api/traces/${encodeURIComponent(traceId)}`;
    let mayChange = true;
    const take = (detail: TraceDetail) => {
      performance.mark("quetzal:trace-data");
      setState({ traceId, detail });
      mayChange = detail.summary.open;
      afterPaint(() => {
        performance.mark("quetzal:trace-painted");
        performance.measure(
          "quetzal:trace-render",
          "quetzal:trace-data",
          "quetzal:trace-painted",
        );
      });
    };
    const follow = () => {
      const source = new EventSource(`${path}/events`);
      setFollowing(true);
      abort.signal.addEventListener("abort", () => source.close());
      source.addEventListener("trace", (event) => {
        const detail: TraceDetail = JSON.parse((event as MessageEvent).data);
        if (!abort.signal.aborted) take(detail);
      });
      source.onerror = () => {
        // The service ends the stream of a complete trace; there is nothing to come back for.
        // Anything else is an interruption, from which the browser comes back by itself.
        if (mayChange && source.readyState !== EventSource.CLOSED) return;
        source.close();
        setFollowing(false);
      };
    };
    getJson<TraceDetail>(path, abort.signal).then((detail) => {
      take(detail);
      const { open, startAtMs, durationMs } = detail.summary;
      if (open || serverNow() - startAtMs - durationMs < settledMs) follow();
    }, (failure) => {
      if (abort.signal.aborted) return;
      const isMissing = failure instanceof ApiFailure && failure.status === 404;
      if (isMissing && /^[0-9a-f]{32}$/.test(traceId)) follow();
      setState({ traceId, failure });
    });
    return () => {
      abort.abort();
      setFollowing(false);
    };
  }, [traceId]);
  const isCurrent = state.traceId === traceId;
  return {
    detail: isCurrent ? state.detail : undefined,
    failure: isCurrent ? state.failure : undefined,
    following,
  };
}

function afterPaint(done: () => void): void {
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      done();
    };
    port2.postMessage(0);
  });
}
