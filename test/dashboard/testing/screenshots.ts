import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";

const folder = fileURLToPath(new URL("../../../docs/images", import.meta.url));

/** QUETZAL_SCREENSHOTS=1 renews the README's pictures, any other run leaves them alone. */
export const takesScreenshots = process.env.QUETZAL_SCREENSHOTS === "1";

/** What is on the screen, from the top of the page; `height` other than the viewport's if set. */
export async function saveScreenshot(
  page: Page,
  name: string,
  { height }: { height?: number } = {},
): Promise<void> {
  if (!takesScreenshots) return;
  mkdirSync(folder, { recursive: true });
  const before = page.viewportSize()!;
  if (height) await page.setViewportSize({ width: before.width, height });
  await page.evaluate("scrollTo(0, 0)");
  // Canvases are painted a frame after their size is known.
  await page.waitForTimeout(400);
  await page.screenshot({ path: `${folder}/dashboard-${name}.png` });
  await page.setViewportSize(before);
}
