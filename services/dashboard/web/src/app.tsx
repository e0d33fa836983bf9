/** @jsxImportSource preact */
import { Component, type ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { connection, mesh, session, sessionFailure } from "./data/live.ts";
import { navigate, path } from "./navigation/address.ts";
import { useShortcuts } from "./navigation/keys.ts";
import { viewOf, views } from "./navigation/views.ts";
import { MeshPage } from "./pages/mesh_page.tsx";
import { ModelsPage } from "./pages/models_page.tsx";
import { PlaygroundPage } from "./pages/playground_page.tsx";
import { RequestsPage } from "./pages/requests_page.tsx";
import { SpeculationPage } from "./pages/speculation_page.tsx";
import { TracePage } from "./pages/trace_page.tsx";
import { Icon } from "./parts/icons.tsx";
import { Login } from "./parts/login.tsx";
import { Failure, Notice } from "./parts/notice.tsx";
import { ShortcutsDialog } from "./parts/shortcuts_dialog.tsx";
import { nextTheme, ThemeButton } from "./parts/theme.tsx";

export function App() {
  const [helping, setHelping] = useState(false);
  const shortcuts = useMemo(() => [
    ...views.map((view) => ({
      keys: `g ${view.key}`,
      does: view.title,
      run: () => navigate(view.path),
    })),
    { keys: "t", does: "Theme: system, light, dark", run: nextTheme },
    { keys: "?", does: "This list", run: () => setHelping(true) },
  ], []);
  useShortcuts("Everywhere", shortcuts);
  const here = viewOf(path.value);
  useEffect(() => {
    const trace = path.value.startsWith("/traces/") ? "Trace" : here?.title;
    document.title = `${trace ?? "Not found"} · Quetzal`;
  }, [path.value]);

  if (session.value && !session.value.authenticated) return <Login />;
  return (
    <div class="shell">
      <a class="skip" href="#main">Skip to content</a>
      <header class="rail">
        <a class="brand" href="/requests">
          <img src="/icon.svg" alt="" width="26" height="26" />
          <span>Quetzal</span>
        </a>
        <nav aria-label="Views">
          {views.map((view) => (
            <a
              key={view.path}
              href={view.path}
              aria-current={here === view ? "page" : undefined}
              title={`${view.title} (g ${view.key})`}
            >
              <Icon name={view.icon} />
              <span>{view.title}</span>
            </a>
          ))}
        </nav>
        <div class="rail-foot">
          <ConnectionState />
          <ThemeButton />
          <button
            type="button"
            class="icon-button"
            aria-label="Keyboard shortcuts"
            title="Keyboard shortcuts (?)"
            onClick={() => setHelping(true)}
          >
            <Icon name="help" />
          </button>
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {sessionFailure.value && !session.value
          ? <Failure failure={sessionFailure.value} />
          : (
            <Boundary key={path.value}>
              <Page path={path.value} />
            </Boundary>
          )}
      </main>
      {helping && <ShortcutsDialog onClose={() => setHelping(false)} />}
    </div>
  );
}

function Page({ path }: { path: string }) {
  const trace = /^\/traces\/([^/]+)$/.exec(path);
  if (trace) return <TracePage traceId={decodeURIComponent(trace[1])} />;
  switch (path) {
    case "/":
    case "/requests":
      return <RequestsPage />;
    case "/mesh":
      return <MeshPage />;
    case "/models":
      return <ModelsPage />;
    case "/speculation":
      return <SpeculationPage />;
    case "/playground":
      return <PlaygroundPage />;
  }
  return (
    <Notice title="There is no such page">
      <p>
        <a href="/requests">Go to the requests</a>
      </p>
    </Notice>
  );
}

function ConnectionState() {
  const lost = connection.value === "lost";
  const stale = mesh.value?.natsConnected === false;
  const [tone, word] = lost
    ? ["bad", "offline"]
    : connection.value === "connecting"
    ? ["warn", "connecting"]
    : stale
    ? ["warn", "no NATS"]
    : ["good", "live"];
  return (
    <span class={`connection ${tone}`} role="status">
      <span class="dot" aria-hidden="true" />
      {word}
    </span>
  );
}

/** One broken view must not take the navigation with it. */
class Boundary extends Component<
  { children: ComponentChildren },
  { failure?: Error }
> {
  override state: { failure?: Error } = {};

  static override getDerivedStateFromError(failure: Error) {
    return { failure };
  }

  override render() {
    const { failure } = this.state;
    if (!failure) return this.props.children;
    return (
      <Failure
        failure={failure}
        retry={() => this.setState({ failure: undefined })}
      />
    );
  }
}
