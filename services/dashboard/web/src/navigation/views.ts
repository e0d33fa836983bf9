import type { IconName } from "../parts/icons.tsx";

export interface View {
  readonly path: string;
  readonly title: string;
  readonly icon: IconName;
  /** After `g`. */
  readonly key: string;
}

/** What the navigation lists; a single trace is reached from the requests. */
export const views = [
  { path: "/requests", title: "Requests", icon: "requests", key: "r" },
  { path: "/mesh", title: "Mesh", icon: "mesh", key: "m" },
  { path: "/models", title: "Models", icon: "models", key: "o" },
  {
    path: "/speculation",
    title: "Speculation",
    icon: "speculation",
    key: "s",
  },
  { path: "/playground", title: "Playground", icon: "playground", key: "p" },
] as const satisfies readonly View[];

/** The view that an address belongs to. */
export function viewOf(path: string): View | undefined {
  if (path === "/" || path.startsWith("/traces/")) return views[0];
  return views.find((view) => view.path === path);
}
