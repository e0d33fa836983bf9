/** Single-key commands, silent while somebody types. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { readSetting, writeSetting } from "../data/settings.ts";

export interface Shortcut {
  /** "j", "/", "g r" (one after the other), "Escape". */
  readonly keys: string;
  readonly does: string;
  readonly run: () => void;
}

/** What is bound now, by group, for the help. */
export const shortcutGroups = signal<
  ReadonlyMap<string, readonly Shortcut[]>
>(new Map());

export const shortcutsOn = signal(readSetting("shortcuts") !== "off");

export function turnShortcuts(on: boolean): void {
  shortcutsOn.value = on;
  writeSetting("shortcuts", on ? "on" : "off");
}

/** Binds while the component is shown; `run` is always the newest one. */
export function useShortcuts(group: string, shortcuts: readonly Shortcut[]) {
  useEffect(() => {
    const next = new Map(shortcutGroups.value).set(group, shortcuts);
    shortcutGroups.value = next;
    return () => {
      const rest = new Map(shortcutGroups.value);
      if (rest.get(group) === shortcuts) rest.delete(group);
      shortcutGroups.value = rest;
    };
  }, [shortcuts]);
}

const sequenceMs = 1_200;
let prefix = "";
let prefixAtMs = 0;

export function listenForShortcuts(): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target) || !shortcutsOn.value) return;
    if (document.querySelector("dialog[open]")) return;
    const isFollowUp = prefix && performance.now() - prefixAtMs < sequenceMs;
    const keys = isFollowUp ? `${prefix} ${event.key}` : event.key;
    prefix = "";
    const all = [...shortcutGroups.value.values()].flat();
    const found = all.find((shortcut) => shortcut.keys === keys);
    if (found) {
      event.preventDefault();
      found.run();
    } else if (all.some((shortcut) => shortcut.keys.startsWith(`${keys} `))) {
      prefix = keys;
      prefixAtMs = performance.now();
    }
  });
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement &&
    (target.isContentEditable ||
      target.matches("input:not([type=checkbox]), textarea, select"));
}
