import type { MiddlewareHandler } from "hono/types";
import { HttpProblem } from "./api_error.ts";

/**
 * What every answer says. Scripts and styles come from this server alone and nothing is ever
 * evaluated, so even text that reached the page as markup by mistake could not run.
 */
const headers = {
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ].join("; "),
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), microphone=(), geolocation=()",
};

export const secured: MiddlewareHandler = async (exchange, next) => {
  await next();
  for (const [name, value] of Object.entries(headers)) {
    exchange.res.headers.set(name, value);
  }
};

/**
 * Refuses what a foreign page could make a browser send: another origin, or a body type that
 * needs no permission. A name that is not ours may be a foreign name bound to our address.
 */
export function sameOrigin(
  hosts: ReadonlySet<string> | undefined,
): MiddlewareHandler {
  return async ({ req }, next) => {
    const host = req.header("host") ?? "";
    if (hosts !== undefined && !hosts.has(nameOf(host))) {
      throw new HttpProblem(421, {
        message: `Cannot answer for the host "${host.slice(0, 100)}": ` +
          `needs ${[...hosts].join(" or ")}`,
        reason: "wrong_host",
      });
    }
    if (isReading(req.method)) return await next();
    const origin = req.header("origin");
    const site = req.header("sec-fetch-site") ?? "same-origin";
    const isForeign = !["same-origin", "none"].includes(site) ||
      (origin !== undefined &&
        (!URL.canParse(origin) || new URL(origin).host !== host));
    if (isForeign) {
      throw new HttpProblem(403, {
        message: "Cannot take the request: it comes from another page",
        reason: "foreign_origin",
      });
    }
    const type = req.header("content-type") ?? "";
    if (req.method !== "DELETE" && !/^application\/json\b/i.test(type)) {
      throw new HttpProblem(415, {
        message: "Cannot take the request: needs content-type application/json",
        reason: "wrong_type",
      });
    }
    await next();
  };
}

function isReading(method: string): boolean {
  return method === "GET" || method === "HEAD";
}

/** "[::1]:8090" and "host:8090" without their ports. */
function nameOf(host: string): string {
  return host.replace(/:\d+$/, "").toLowerCase();
}
