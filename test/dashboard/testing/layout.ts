/// <reference lib="dom" />
import type { Page } from "playwright-core";

/** Elements that reach beyond the right edge outside of anything that scrolls. */
export async function overflowing(page: Page): Promise<string[]> {
  return await page.evaluate(() => {
    const edge = document.documentElement.clientWidth + 1;
    const scrolls = (element: Element | null): boolean => {
      for (
        let at = element;
        at && at !== document.body;
        at = at.parentElement
      ) {
        const { overflowX } = getComputedStyle(at);
        if (overflowX !== "visible") return true;
      }
      return false;
    };
    const found = [...document.querySelectorAll("body *")].filter((element) =>
      element.getBoundingClientRect().right > edge &&
      !scrolls(element.parentElement)
    ).map((element) => element.outerHTML.slice(0, 120));
    const isWide = document.documentElement.scrollWidth > edge;
    return isWide ? ["the page scrolls sideways", ...found] : found;
  });
}
