import { useCallback, useEffect, useState } from "preact/hooks";
import { ApiFailure, getJson } from "./api.ts";
import { session } from "./live.ts";

export interface Resource<T> {
  /** Of the newest answer; stays while the next one is on its way. */
  readonly value: T | undefined;
  readonly failure: ApiFailure | undefined;
  readonly loading: boolean;
  /** Asks again. */
  readonly reload: () => void;
}

/** Fetches `url`, and again when it changes; a late answer to an older question is dropped. */
export function useResource<T>(url: string | undefined): Resource<T> {
  const [state, setState] = useState<
    { url?: string; value?: T; failure?: ApiFailure }
  >({});
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (url === undefined) return;
    const abort = new AbortController();
    getJson<T>(url, abort.signal).then(
      (value) => setState({ url, value }),
      (failure) => {
        if (abort.signal.aborted) return;
        if (failure instanceof ApiFailure && failure.status === 401) {
          loggedOut();
        }
        setState((last) => ({ url, value: last.value, failure }));
      },
    );
    return () => abort.abort();
  }, [url, round]);
  return {
    value: state.value,
    failure: state.url === url ? state.failure : undefined,
    loading: url !== undefined && state.url !== url,
    reload: useCallback(() => setRound((count) => count + 1), []),
  };
}

function loggedOut(): void {
  const last = session.value;
  if (last) {
    session.value = { ...last, authRequired: true, authenticated: false };
  }
}
