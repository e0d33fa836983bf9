/** @jsxImportSource preact */
import { render } from "preact";
import { App } from "./app.tsx";
import { loadSession } from "./data/live.ts";
import { followLinks } from "./navigation/address.ts";
import { listenForShortcuts } from "./navigation/keys.ts";

followLinks();
listenForShortcuts();
loadSession();
render(<App />, document.getElementById("app")!);
