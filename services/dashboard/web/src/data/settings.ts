/** What a browser remembers; a blocked storage only forgets. */

export function readSetting(name: string): string | undefined {
  try {
    return localStorage.getItem(`quetzal.${name}`) ?? undefined;
  } catch {
    return undefined;
  }
}

export function writeSetting(name: string, value: string | undefined): void {
  try {
    if (value === undefined) localStorage.removeItem(`quetzal.${name}`);
    else localStorage.setItem(`quetzal.${name}`, value);
  } catch {
    // Blocked or full: the choice holds until the page is left.
  }
}
