import { Code, MeshError } from "../errors/mesh_error.ts";
import type { ModelSource } from "./types.ts";

/** As it stands in a request or a bucket: nothing of it is trusted. */
export interface RawSource {
  readonly path?: string;
  readonly url?: string;
  readonly sha256?: string;
}

const textMax = 4_096;

/** Throws `invalidArgument` that names the field; `field` is its name in the request. */
export function parseSource(raw: RawSource, field = "source"): ModelSource {
  const { path = "", url = "" } = raw;
  const sha256 = raw.sha256?.toLowerCase() || undefined;
  if ((path === "") === (url === "")) {
    refuse(field, "a path or a url", path === "" ? "neither" : "both");
  }
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/.test(sha256)) {
    refuse(`${field}.sha256`, "64 hex digits", sha256.slice(0, 80));
  }
  if (path !== "") {
    if (path.length > textMax || path.includes("\0")) {
      refuse(
        `${field}.path`,
        `a path of up to ${textMax} characters`,
        "another",
      );
    }
    return sha256 === undefined ? { path } : { path, sha256 };
  }
  if (!isHttpUrl(url)) {
    refuse(`${field}.url`, "an http or https URL", url.slice(0, 200));
  }
  if (sha256 === undefined) {
    refuse(
      `${field}.sha256`,
      "64 hex digits, since the source is a url",
      "none",
    );
  }
  return { url, sha256 };
}

function isHttpUrl(text: string): boolean {
  if (text.length > textMax || !URL.canParse(text)) return false;
  return ["http:", "https:"].includes(new URL(text).protocol);
}

function refuse(field: string, needed: string, found: string): never {
  throw new MeshError(
    Code.invalidArgument,
    `Cannot use the model's source: ${field} must be ${needed}, is ${found}`,
    { field },
  );
}
