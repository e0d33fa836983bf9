/** @jsxImportSource preact */
import { signal } from "@preact/signals";
import { readSetting, writeSetting } from "../data/settings.ts";
import { Icon } from "./icons.tsx";

const order = ["auto", "light", "dark"] as const;
type Theme = (typeof order)[number];

const stored = readSetting("theme");
export const theme = signal<Theme>(
  stored === "dark" || stored === "light" ? stored : "auto",
);

/** The system's, then light, then dark. */
export function nextTheme(): void {
  const next = order[(order.indexOf(theme.value) + 1) % order.length];
  theme.value = next;
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  writeSetting("theme", next === "auto" ? undefined : next);
}

export function ThemeButton() {
  const icon = { auto: "auto", light: "sun", dark: "moon" } as const;
  const words = { auto: "as the system", light: "light", dark: "dark" };
  const label = `Theme: ${words[theme.value]}`;
  return (
    <button
      type="button"
      class="icon-button"
      onClick={nextTheme}
      aria-label={label}
      title={`${label} (t)`}
    >
      <Icon name={icon[theme.value]} />
    </button>
  );
}
