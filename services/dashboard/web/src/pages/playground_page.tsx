/** @jsxImportSource preact */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { models, session } from "../data/live.ts";
import { useTrace } from "../data/use_trace.ts";
import { query, setQuery } from "../navigation/address.ts";
import { useShortcuts } from "../navigation/keys.ts";
import { tame } from "../parts/foreign.tsx";
import { Failure, Notice } from "../parts/notice.tsx";
import { Badge, Section } from "../parts/small.tsx";
import {
  type PlaygroundRequest,
  sendRequest,
} from "../playground/send_request.ts";
import { TraceView } from "../trace/trace_view.tsx";

interface Run {
  readonly text: string;
  readonly state: "running" | "done" | "failed" | "stopped";
  readonly reason?: string;
  readonly failure?: Error;
}

/** Sends a request and shows its trace as it builds up. */
export function PlaygroundPage() {
  const [run, setRun] = useState<Run>();
  const abort = useRef<AbortController | undefined>(undefined);
  const traceId = query.value.get("trace") ?? undefined;
  const { detail, following } = useTrace(traceId);
  useEffect(() => () => abort.current?.abort(), []);

  const send = async (request: PlaygroundRequest) => {
    abort.current?.abort();
    const { signal } = abort.current = new AbortController();
    const change = (with_: (last: Run) => Run) => {
      if (!signal.aborted) setRun((last) => with_(last!));
    };
    setQuery({
      trace: undefined,
      span: undefined,
      token: undefined,
      zoom: undefined,
    });
    setRun({ text: "", state: "running" });
    try {
      await sendRequest(request, {
        onTrace: (id) => {
          if (!signal.aborted) setQuery({ trace: id });
        },
        onText: (piece) =>
          change((last) => ({ ...last, text: last.text + piece })),
        onFinish: (reason) => change((last) => ({ ...last, reason })),
      }, signal);
      change((last) => ({ ...last, state: "done" }));
    } catch (failure) {
      change((last) => ({
        ...last,
        state: "failed",
        failure: failure as Error,
      }));
    }
  };
  const stop = () => {
    abort.current?.abort();
    setRun((last) => last && { ...last, state: "stopped" });
  };

  if (session.value && !session.value.playground) {
    return (
      <div class="page">
        <header class="page-head">
          <h1>Playground</h1>
        </header>
        <Notice title="No router to send to">
          <p>
            The dashboard was started without the address of a router. Start it
            with QUETZAL_DASHBOARD_ROUTER_URL, for example
            http://127.0.0.1:8080.
          </p>
        </Notice>
      </div>
    );
  }
  return (
    <div class="page">
      <header class="page-head">
        <h1>Playground</h1>
      </header>
      <div class="playground">
        <RequestForm
          running={run?.state === "running"}
          onSend={send}
          onStop={stop}
        />
        <Answer run={run} />
      </div>
      {detail
        ? <TraceView detail={detail} />
        : traceId && (
          <Section title="Trace">
            <p class="muted" role="status">
              {following
                ? "The trace appears as its spans arrive."
                : "No span of this trace is here."}{" "}
              <a href={`/traces/${encodeURIComponent(traceId)}`}>
                <code>{traceId.slice(0, 8)}</code>
              </a>
            </p>
          </Section>
        )}
      {detail && (
        <p>
          <a href={`/traces/${encodeURIComponent(detail.summary.traceId)}`}>
            Open this trace on its own page
          </a>
        </p>
      )}
    </div>
  );
}

interface RequestFormProps {
  readonly running: boolean;
  readonly onSend: (request: PlaygroundRequest) => void;
  readonly onStop: () => void;
}

function RequestForm({ running, onSend, onStop }: RequestFormProps) {
  const form = useRef<HTMLFormElement>(null);
  const names = (models.value?.models ?? []).map((model) => model.model);
  const chosen = query.value.get("model") ?? names[0] ?? "";
  const submit = (event?: Event) => {
    event?.preventDefault();
    if (!form.current!.reportValidity()) return;
    const data = new FormData(form.current!);
    const text = (name: string) => String(data.get(name) ?? "");
    const seed = text("seed").trim();
    onSend({
      model: text("model"),
      system: text("system"),
      prompt: text("prompt"),
      maxTokens: Number(text("maxTokens")),
      temperature: Number(text("temperature")),
      seed: seed === "" ? undefined : Number(seed),
    });
  };
  const shortcuts = useMemo(() => [
    {
      keys: "/",
      does: "To the prompt",
      run: () => form.current?.querySelector("textarea")?.focus(),
    },
  ], []);
  useShortcuts("Playground", shortcuts);
  return (
    <form
      class="card request-form"
      ref={form}
      onSubmit={submit}
      aria-label="Request"
    >
      <label class="field">
        <span>Model</span>
        {names.length > 0
          ? (
            <select
              name="model"
              value={chosen}
              onChange={(event) =>
                setQuery({ model: event.currentTarget.value })}
            >
              {[...new Set([...names, ...(chosen ? [chosen] : [])])].map((
                name,
              ) => <option key={name} value={name}>{tame(name, 60)}</option>)}
            </select>
          )
          : (
            <input
              name="model"
              required
              value={chosen}
              placeholder="quetzal-demo"
            />
          )}
      </label>
      <label class="field">
        <span>Prompt</span>
        <textarea
          name="prompt"
          rows={5}
          required
          placeholder="What is the KV cache?"
          onKeyDown={(event) => {
            if (
              event.key === "Enter" && (event.ctrlKey || event.metaKey)
            ) submit(event);
          }}
        />
      </label>
      <details>
        <summary>System prompt and sampling</summary>
        <label class="field">
          <span>System prompt</span>
          <textarea name="system" rows={2} />
        </label>
        <div class="filter-row">
          <label class="field">
            <span>Tokens at most</span>
            <input
              name="maxTokens"
              type="number"
              min="1"
              max="32768"
              value="128"
              required
            />
          </label>
          <label class="field">
            <span>Temperature</span>
            <input
              name="temperature"
              type="number"
              min="0"
              max="2"
              step="0.1"
              value="0"
              required
            />
          </label>
          <label class="field">
            <span>Seed</span>
            <input
              name="seed"
              type="number"
              min="0"
              step="1"
              placeholder="random"
            />
          </label>
        </div>
      </details>
      <div class="form-foot">
        <button type="submit" class="button primary" disabled={running}>
          Send
        </button>
        {running && (
          <button type="button" class="button" onClick={onStop}>Stop</button>
        )}
        <span class="muted">
          <kbd>Ctrl</kbd> <kbd>Enter</kbd>
        </span>
      </div>
    </form>
  );
}

function Answer({ run }: { run: Run | undefined }) {
  const badges = {
    running: <Badge tone="busy">running</Badge>,
    done: <Badge tone="good">{tame(run?.reason ?? "done", 20)}</Badge>,
    failed: <Badge tone="bad">failed</Badge>,
    stopped: <Badge tone="warn">stopped</Badge>,
  };
  return (
    <Section title="Answer" aside={run && badges[run.state]}>
      {run === undefined
        ? (
          <p class="muted">
            The answer streams in here, and its trace builds up below.
          </p>
        )
        : (
          <p
            class="prose answer"
            aria-live="polite"
            aria-busy={run.state === "running"}
          >
            <bdi>{tame(run.text)}</bdi>
            {run.state === "running" && (
              <span class="caret" aria-hidden="true" />
            )}
          </p>
        )}
      {run?.failure && <Failure failure={run.failure} />}
    </Section>
  );
}
