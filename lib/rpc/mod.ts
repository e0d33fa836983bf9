/** gRPC for the services: only this folder knows the library. */
export * from "./call_context.ts";
export * from "./client.ts";
export * from "./duplex.ts";
export * from "./server.ts";
export * from "./status.ts";
