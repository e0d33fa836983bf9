/** Traces on disk: stored whole, found by what is known about them. */
export { openSqliteStore, type SqliteStoreOptions } from "./sqlite_store.ts";
export {
  type CheckedQuery,
  QueryError,
  type RetentionLimits,
  type StoreCounts,
  type StoredTrace,
  type TraceStore,
} from "./types.ts";
