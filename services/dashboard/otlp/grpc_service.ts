import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import { type RpcService, unary } from "../../../lib/rpc/mod.ts";
import type { Collector } from "../collector.ts";
import { protobufAnswer, requireToken } from "../http/otlp_door.ts";
import { decodeProtobuf } from "./decode_protobuf.ts";
import { OtlpError } from "./limits.ts";

const name = "opentelemetry.proto.collector.trace.v1.TraceService";

export interface TraceServiceOptions {
  readonly collector: Collector;
  readonly token: string | undefined;
  readonly nowMs: () => number;
}

/** OTLP over gRPC. Messages pass as bytes: the decoder is the one of the HTTP door. */
export function traceService(
  { collector, token, nowMs }: TraceServiceOptions,
): RpcService {
  const asBytes = (value: Buffer) => value;
  return {
    name,
    definition: {
      export: {
        path: `/${name}/Export`,
        requestStream: false,
        responseStream: false,
        requestSerialize: asBytes,
        requestDeserialize: asBytes,
        responseSerialize: asBytes,
        responseDeserialize: asBytes,
      },
    },
    implementation: {
      export: unary<Buffer, Buffer>((request, call) => {
        checkToken(call.header("authorization"), token);
        const batch = decode(request, nowMs());
        collector.take(batch, request.byteLength);
        return Buffer.from(protobufAnswer(batch));
      }),
    },
  };
}

function checkToken(
  authorization: string | undefined,
  token: string | undefined,
): void {
  try {
    requireToken(authorization, token);
  } catch (cause) {
    throw new MeshError(
      Code.permissionDenied,
      (cause as Error).message,
      { cause },
    );
  }
}

function decode(request: Buffer, nowMs: number) {
  try {
    return decodeProtobuf(request, nowMs);
  } catch (cause) {
    if (!(cause instanceof OtlpError)) throw cause;
    throw new MeshError(Code.invalidArgument, cause.message, { cause });
  }
}
