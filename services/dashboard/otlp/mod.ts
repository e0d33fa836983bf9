/** OTLP traces: protobuf and JSON in, JSON out. */
export { decodeJson } from "./decode_json.ts";
export { decodeProtobuf } from "./decode_protobuf.ts";
export { encodeJson } from "./encode_json.ts";
export {
  limits,
  type OtlpBatch,
  OtlpError,
  type ReceivedSpan,
} from "./limits.ts";
