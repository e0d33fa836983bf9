import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";

const folder = fileURLToPath(new URL("../../../docs/images", import.meta.url));

/** For the README: QUETZAL_SCREENSHOTS=1 renews them, any other run leaves them alone. */
export async function saveScreenshot(page: Page, name: string): Promise<void> {
  if (!process.env.QUETZAL_SCREENSHOTS) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: `${folder}/dashboard-${name}.png` });
}
