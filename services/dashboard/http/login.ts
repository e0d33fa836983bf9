import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { HttpProblem } from "./api_error.ts";

/** A browser stays logged in for a week, or until the token or the process changes. */
const sessionMs = 7 * 86_400_000;
const attemptsPerMinute = 30;
const cookieName = "quetzal_dashboard";

export interface LoginOptions {
  /** Absent: everybody is let in. */
  readonly token: string | undefined;
  readonly nowMs: () => number;
  /** Signs cookies; of the process unless set. */
  readonly key?: Uint8Array;
}

/**
 * Who may call the API: whoever has the token, as a bearer or once for a cookie.
 *
 * The cookie is an expiry time signed with a key of this process and the token, so there is no
 * list of sessions to keep, and a changed token ends all of them.
 */
export class Login {
  readonly #options: LoginOptions;
  readonly #key: Uint8Array;
  #minute = 0;
  #failures = 0;

  constructor(options: LoginOptions) {
    this.#options = options;
    this.#key = options.key ?? randomBytes(32);
  }

  get required(): boolean {
    return this.#options.token !== undefined;
  }

  isLoggedIn(header: (name: string) => string | undefined): boolean {
    if (!this.required) return true;
    const bearer = /^Bearer (.+)$/i.exec(header("authorization") ?? "")?.[1];
    if (bearer !== undefined) return this.#isToken(bearer);
    const cookie = (header("cookie") ?? "").split(/;\s*/)
      .find((part) => part.startsWith(`${cookieName}=`));
    return cookie !== undefined &&
      this.#isCookie(cookie.slice(cookieName.length + 1));
  }

  /** The `set-cookie` of a login; throws for a wrong token. */
  logIn(token: string, isHttps: boolean): string {
    const minute = Math.floor(this.#options.nowMs() / 60_000);
    if (minute !== this.#minute) this.#failures = 0;
    this.#minute = minute;
    if (this.#failures >= attemptsPerMinute) {
      throw new HttpProblem(429, {
        message: "Cannot log in: too many wrong tokens, wait a minute",
        reason: "too_many_attempts",
        headers: { "retry-after": "60" },
      });
    }
    if (!this.#isToken(token)) {
      this.#failures++;
      throw new HttpProblem(401, {
        message: "Cannot log in: this is not the token",
        reason: "wrong_token",
        field: "token",
      });
    }
    const until = this.#options.nowMs() + sessionMs;
    return cookieOf(`${until}.${this.#sign(`${until}`)}`, {
      seconds: sessionMs / 1_000,
      isHttps,
    });
  }

  logOut(isHttps: boolean): string {
    return cookieOf("", { seconds: 0, isHttps });
  }

  #isToken(found: string): boolean {
    const { token } = this.#options;
    return token === undefined || isSame(this.#mac(found), this.#mac(token));
  }

  #isCookie(cookie: string): boolean {
    const [until, mac = ""] = cookie.split(".", 2);
    return /^\d{1,16}$/.test(until) &&
      Number(until) > this.#options.nowMs() &&
      isSame(Buffer.from(mac), Buffer.from(this.#sign(until)));
  }

  #sign(text: string): string {
    return createHmac("sha256", this.#key)
      .update(`${text}\n${this.#options.token}`).digest("base64url");
  }

  /** Equal lengths, so that comparing says nothing about the token's. */
  #mac(text: string): Buffer {
    return createHmac("sha256", this.#key).update(text).digest();
  }
}

function isSame(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function cookieOf(
  value: string,
  { seconds, isHttps }: { seconds: number; isHttps: boolean },
): string {
  return `${cookieName}=${value}; Path=/; Max-Age=${seconds}; HttpOnly; ` +
    `SameSite=Strict${isHttps ? "; Secure" : ""}`;
}
