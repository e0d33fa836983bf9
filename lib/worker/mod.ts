/** What prefill and decode workers share. */
export * from "./admission.ts";
export * from "./config.ts";
export * from "./embed_service.ts";
export * from "./observer.ts";
export * from "./load_models.ts";
export * from "./memory_budget.ts";
export * from "./metrics.ts";
export * from "./model_host.ts";
export * from "./run_worker.ts";
export * from "./sequence_request.ts";
export * from "./served_models.ts";
export * from "./worker.ts";
export * from "./worker_directory.ts";
