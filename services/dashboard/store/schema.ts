import type { Database } from "./database.ts";

/** Raised whenever the tables below change. */
const version = 1;

/**
 * `traces` holds what is searched and sorted by. Its two wide indexes hold all of that again in the
 * order of the lists, so that even a search which nothing narrows down walks through some 20 MB in
 * order for a million spans and never jumps. `bodies` holds what is shown: the line of
 * the list, and the spans as deflated JSON, which only the page of one trace reads.
 */
const tables = `
CREATE TABLE traces (
  id INTEGER PRIMARY KEY,
  trace_id TEXT NOT NULL UNIQUE,
  request_id TEXT,
  start_ms REAL NOT NULL,
  duration_ms REAL NOT NULL,
  status INTEGER NOT NULL,
  model TEXT,
  tenant TEXT,
  ttft_ms REAL,
  inter_token_ms REAL,
  queue_ms REAL,
  prompt_tokens INTEGER,
  output_tokens INTEGER,
  span_count INTEGER NOT NULL,
  workers TEXT NOT NULL
);
CREATE INDEX traces_start ON traces (start_ms, duration_ms, status,
  prompt_tokens, output_tokens, ttft_ms, inter_token_ms, queue_ms, model, tenant);
CREATE INDEX traces_duration ON traces (duration_ms, start_ms, status,
  prompt_tokens, output_tokens, ttft_ms, model, tenant);
CREATE INDEX traces_model_start ON traces (model, start_ms);
CREATE INDEX traces_model_duration ON traces (model, duration_ms);
CREATE INDEX traces_tenant_start ON traces (tenant, start_ms);
CREATE INDEX traces_status_start ON traces (status, start_ms);
CREATE INDEX traces_status_duration ON traces (status, duration_ms);
CREATE INDEX traces_request ON traces (request_id);
CREATE TABLE bodies (
  id INTEGER PRIMARY KEY,
  summary TEXT NOT NULL,
  spans BLOB NOT NULL,
  left_out INTEGER NOT NULL
);`;

/** Creates the tables in an empty file; refuses one that another version wrote. */
export function prepareSchema(database: Database, path: string): void {
  database.exec("PRAGMA auto_vacuum = INCREMENTAL");
  database.exec("PRAGMA journal_mode = WAL");
  // A crash of the machine may cost the last second of traces, never the file.
  database.exec("PRAGMA synchronous = NORMAL");
  database.exec("PRAGMA cache_size = -8192");
  database.exec("PRAGMA temp_store = MEMORY");
  const found = database.prepare("PRAGMA user_version").get()?.user_version;
  if (found === version) return;
  if (found !== 0) {
    throw new Error(
      `Cannot open the trace store ${path}: needs version ${version}, ` +
        `found ${found}; move the file away to start afresh`,
    );
  }
  database.transaction(() => {
    database.exec(tables);
    database.exec(`PRAGMA user_version = ${version}`);
  });
}
