/** Many sequences over one call between a router and a decode worker. */
export * from "./decode_link.ts";
export * from "./serve_link.ts";
