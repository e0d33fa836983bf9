/** Asks a process whether it answers; no npm package is needed for it. */
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";

const probeMs = 2_000;

/** True once a NATS server greets: it does so when it is ready, JetStream included. */
export function natsAnswers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const settle = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(probeMs, () => settle(false));
    socket.once("data", (chunk) => settle(`${chunk}`.startsWith("INFO")));
    socket.once("error", () => settle(false));
    socket.once("close", () => settle(false));
  });
}

/** True when the URL answers with a 2xx status. */
export async function httpAnswers(url: string): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(probeMs) });
  await response.body?.cancel();
  return response.ok;
}

/** An empty HealthCheckRequest as gRPC frames it: uncompressed, length 0. */
const healthRequest = Buffer.from([0, 0, 0, 0, 0]);

/** HealthCheckResponse { status: SERVING }, framed: field 1, varint 1. */
const healthServing = Buffer.from([0, 0, 0, 0, 2, 0x08, 0x01]);

/** True when `grpc.health.v1.Health/Check` says that the server as a whole serves. */
export function grpcServes(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    const settle = (answer: boolean) => {
      session.destroy();
      resolve(answer);
    };
    session.setTimeout(probeMs, () => settle(false));
    session.once("error", () => settle(false));
    const call = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const chunks: Buffer[] = [];
    call.on("data", (chunk: Buffer) => chunks.push(chunk));
    call.once("error", () => settle(false));
    call.once("end", () => settle(Buffer.concat(chunks).equals(healthServing)));
    call.end(healthRequest);
  });
}
