import { readdirSync, readFileSync, statSync } from "node:fs";
import { extname, join, relative, sep } from "node:path";
import { createHash } from "node:crypto";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

interface File {
  readonly type: string;
  readonly etag: string;
  /** Its name holds a hash of its content, so it never changes. */
  readonly isImmutable: boolean;
  readonly variants: Readonly<Partial<Record<Encoding, Uint8Array>>> & {
    readonly identity: Uint8Array;
  };
}

type Encoding = "br" | "gzip" | "identity";

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".woff2": "font/woff2",
  ".txt": "text/plain; charset=utf-8",
};

const notBuilt = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Quetzal dashboard</title>
<h1>The pages are not built yet</h1>
<p>Run <code>deno run -A services/dashboard/web/build.ts</code> in the checkout
and reload. The API works without: see <a href="/api/openapi.json">/api/openapi.json</a>.
</html>
`;

/**
 * The built page, read and compressed once at start. Every path that is no file answers the page
 * itself, which finds its view from the address.
 */
export class StaticFiles {
  readonly #files = new Map<string, File>();

  constructor(folder: string) {
    for (const path of filesIn(folder)) {
      const name = `/${relative(folder, path).split(sep).join("/")}`;
      // Used for its plain file, or not for browsers at all.
      if (/\.(br|gz)$/.test(name) || name === "/build.json") continue;
      this.#files.set(name, readFile(path));
    }
  }

  answer(
    path: string,
    header: (name: string) => string | undefined,
  ): Response {
    const file = this.#files.get(path) ??
      (extname(path) === "" ? this.#files.get("/index.html") : undefined);
    if (file === undefined) return this.#missing(path);
    const headers = new Headers({
      "content-type": file.type,
      etag: file.etag,
      vary: "accept-encoding",
      "cache-control": file.isImmutable
        ? "public, max-age=31536000, immutable"
        : "no-cache",
    });
    if (header("if-none-match")?.includes(file.etag)) {
      return new Response(null, { status: 304, headers });
    }
    const [encoding, body] = choose(file, header("accept-encoding") ?? "");
    if (encoding !== "identity") headers.set("content-encoding", encoding);
    return new Response(body as Uint8Array<ArrayBuffer>, { headers });
  }

  #missing(path: string): Response {
    const isPage = extname(path) === "";
    return new Response(isPage ? notBuilt : "Not found\n", {
      status: isPage ? 503 : 404,
      headers: {
        "content-type": isPage ? types[".html"] : types[".txt"],
        "cache-control": "no-store",
      },
    });
  }
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
  } catch {
    // Not built yet: the answer says what to do.
    return [];
  }
}

function readFile(path: string): File {
  const identity = readFileSync(path);
  const type = types[extname(path)] ?? "application/octet-stream";
  const isText = /text|json|svg/.test(type) && identity.length > 512;
  return {
    type,
    etag: `"${
      createHash("sha256").update(identity).digest("base64url").slice(0, 22)
    }"`,
    isImmutable: /[-.][\w-]{8,}\.\w+$/.test(path) && !path.endsWith(".html"),
    variants: isText
      ? { identity, br: brotli(path, identity), gzip: gzip(path, identity) }
      : { identity },
  };
}

function brotli(path: string, data: Uint8Array): Uint8Array {
  return newer(`${path}.br`, path) ?? brotliCompressSync(data, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 9 },
  });
}

function gzip(path: string, data: Uint8Array): Uint8Array {
  return newer(`${path}.gz`, path) ?? gzipSync(data, { level: 9 });
}

/** What the build compressed, unless the plain file was changed since. */
function newer(packed: string, plain: string): Uint8Array | undefined {
  try {
    if (statSync(packed).mtimeMs < statSync(plain).mtimeMs) return undefined;
    return readFileSync(packed);
  } catch {
    // The build left it to us.
    return undefined;
  }
}

function choose(file: File, accepted: string): [Encoding, Uint8Array] {
  for (const encoding of ["br", "gzip"] as const) {
    const body = file.variants[encoding];
    const isAccepted = accepted.split(",").some((part) => {
      const [name, q = "q=1"] = part.trim().split(";");
      return name.trim() === encoding && Number(q.trim().slice(2)) > 0;
    });
    if (body !== undefined && isAccepted) return [encoding, body];
  }
  return ["identity", file.variants.identity];
}
