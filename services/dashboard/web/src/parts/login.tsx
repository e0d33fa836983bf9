/** @jsxImportSource preact */
import { useState } from "preact/hooks";
import type { Session } from "../../../api_types.ts";
import { sendJson } from "../data/api.ts";
import { takeSession } from "../data/live.ts";

/** Asks for the token; the service answers with a cookie that scripts cannot read. */
export function Login() {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<string>();
  const submit = async (event: Event) => {
    event.preventDefault();
    try {
      takeSession(await sendJson<Session>("POST", "/api/session", { token }));
    } catch (failure) {
      setProblem((failure as Error).message);
    }
  };
  return (
    <main class="login">
      <form class="card" onSubmit={submit}>
        <h1>Quetzal dashboard</h1>
        <label class="field">
          <span>Token</span>
          <input
            type="password"
            autocomplete="current-password"
            value={token}
            onInput={(event) => setToken(event.currentTarget.value)}
            aria-describedby="login-help"
            required
          />
        </label>
        {problem && <p class="problem" role="alert">{problem}</p>}
        <p class="muted" id="login-help">
          It is the value of QUETZAL_DASHBOARD_TOKEN of the dashboard process.
        </p>
        <button type="submit" class="button primary">Log in</button>
      </form>
    </main>
  );
}
