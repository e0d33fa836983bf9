/** The address bar is the state of the page: every view can be linked, reloaded and gone back to. */
import { computed, signal } from "@preact/signals";

const current = signal(read());

function read() {
  return { path: location.pathname, query: location.search };
}

addEventListener("popstate", () => current.value = read());

export const path = computed(() => current.value.path);
export const query = computed(() => new URLSearchParams(current.value.query));

export function navigate(href: string, { replace = false } = {}): void {
  const url = new URL(href, location.href);
  const target = url.pathname + url.search;
  if (target === location.pathname + location.search) return;
  const samePage = url.pathname === location.pathname;
  if (replace) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  current.value = read();
  if (!samePage) scrollTo(0, 0);
}

/** Changes some parts of the query; `undefined` and "" take a part out. */
export function setQuery(
  parts: Record<string, string | undefined>,
  { replace = true } = {},
): void {
  const next = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(parts)) {
    if (value === undefined || value === "") next.delete(name);
    else next.set(name, value);
  }
  const text = next.toString();
  navigate(location.pathname + (text && `?${text}`), { replace });
}

/** Links of this page change the view in place; anything else is the browser's. */
export function followLinks(): void {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) {
      return;
    }
    const link = (event.target as Element | null)?.closest?.("a");
    if (!link || link.target || link.origin !== location.origin) return;
    if (link.pathname.startsWith("/api/") || link.hasAttribute("download")) {
      return;
    }
    if (link.hash && link.pathname === location.pathname) return;
    event.preventDefault();
    navigate(link.href);
  });
}
