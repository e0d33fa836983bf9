/** An HTTP server for one file, with faults that a test chooses per request. */
import { createHash } from "node:crypto";
import {
  createServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";

export interface FileServer extends AsyncDisposable {
  readonly url: string;
  /** What it serves; may be replaced. */
  content: Uint8Array;
  /** `undefined`: none is sent. */
  etag: string | undefined;
  /** false: it answers 200 with everything, whatever was asked. */
  ranges: boolean;
  /** For the next requests, in order; afterwards none has a fault. */
  readonly faults: Fault[];
  /** Of each request: its Range header. */
  readonly asked: (string | undefined)[];
}

export type Fault =
  /** The connection is cut after so many bytes of the answer; a busy client may
   * lose the last of them, see {@link isResumed}. */
  | { readonly kind: "cut"; readonly afterBytes: number }
  /** Nothing more comes after so many bytes, and the connection stays. */
  | { readonly kind: "stall"; readonly afterBytes: number }
  | { readonly kind: "status"; readonly status: number }
  /** The range it claims to send is another than the one asked for. */
  | { readonly kind: "wrong range" }
  /** No content-length, as of a server that makes the file while sending. */
  | { readonly kind: "chunked" };

export async function startFileServer(
  content: Uint8Array,
): Promise<FileServer> {
  const server = createServer((request, response) => {
    answer(files, request, response);
  });
  await new Promise<void>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve())
  );
  const { port } = server.address() as AddressInfo;
  const files: FileServer = {
    url: `http://127.0.0.1:${port}/model.gguf`,
    content,
    etag: '"one"',
    ranges: true,
    faults: [],
    asked: [],
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return files;
}

function answer(
  files: FileServer,
  { headers }: IncomingMessage,
  response: ServerResponse,
): void {
  files.asked.push(headers.range);
  const fault = files.faults.shift();
  if (fault?.kind === "status") {
    response.writeHead(fault.status).end("no");
    return;
  }
  const { content, etag } = files;
  const first = Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0);
  const isSame = headers["if-range"] === undefined ||
    headers["if-range"] === etag;
  const isPart = files.ranges && headers.range !== undefined && isSame;
  if (isPart && first >= content.length) {
    response.writeHead(416, { "content-range": `bytes */${content.length}` })
      .end();
    return;
  }
  const body = isPart ? content.subarray(first) : content;
  const begin = fault?.kind === "wrong range" ? first + 1 : first;
  response.writeHead(isPart ? 206 : 200, {
    ...(etag && { etag }),
    ...(fault?.kind !== "chunked" && { "content-length": body.length }),
    ...(isPart && {
      "content-range": `bytes ${begin}-${content.length - 1}/${content.length}`,
    }),
  });
  switch (fault?.kind) {
    case "cut":
      response.write(body.subarray(0, fault.afterBytes), () => {
        // Let it leave before the connection breaks.
        setTimeout(() => response.destroy(), 100);
      });
      return;
    case "stall":
      response.write(body.subarray(0, fault.afterBytes));
      return;
    default:
      response.end(body);
  }
}

/**
 * Whether a request went on behind what an earlier one brought: some bytes, and
 * at most `sent`, because those that a client has not read when its connection
 * breaks are lost to it.
 */
export function isResumed(range: string | undefined, sent: number): boolean {
  const begin = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  return begin > 0 && begin <= sent;
}

export function sha256(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}
