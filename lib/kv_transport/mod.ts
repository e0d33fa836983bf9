/** How KV blocks get from a prefill worker to a decode worker. */
export * from "./block_event_bytes.ts";
export * from "./block_receiver.ts";
export * from "./block_sender.ts";
export * from "./crc32c.ts";
export * from "./faults.ts";
export * from "./grpc_transport.ts";
export * from "./shared_arena.ts";
export * from "./shared_file.ts";
export * from "./shared_writer.ts";
export * from "./types.ts";
export * from "./wire_block.ts";
