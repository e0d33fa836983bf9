/** The router's subject, whatever the front door: from checked input to text. */
export { check } from "./check.ts";
export { clientFailure } from "./client_failure.ts";
export * from "./embedding.ts";
export * from "./generation.ts";
export * from "./generation_input.ts";
export { Inference, type InferenceOptions } from "./inference.ts";
export {
  type ChatEncoder,
  ModelCatalog,
  type ServedModel,
} from "./model_catalog.ts";
export { encodeChat, encodeIds, encodeText } from "./encode.ts";
export { type RefusalReason, RequestError } from "./request_error.ts";
export { RequestScope } from "./request_scope.ts";
