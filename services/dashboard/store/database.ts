/** SQLite as both runtimes have it; the one place that knows which is which. */
import { chmodSync, closeSync, openSync } from "node:fs";

export type SqlValue = string | number | null | Uint8Array;
export type Row = Readonly<Record<string, SqlValue>>;

export interface Statement {
  run(...values: SqlValue[]): void;
  get(...values: SqlValue[]): Row | undefined;
  all(...values: SqlValue[]): Row[];
}

export interface Database extends Disposable {
  exec(sql: string): void;
  /** The same text answers the same statement. */
  prepare(sql: string): Statement;
  /** All of it or nothing. */
  transaction<T>(work: () => T): T;
}

/** What `node:sqlite` and `bun:sqlite` have in common. */
interface Driver {
  exec(sql: string): unknown;
  prepare(sql: string): {
    run(...values: SqlValue[]): unknown;
    get(...values: SqlValue[]): unknown;
    all(...values: SqlValue[]): unknown[];
  };
  close(): void;
}

/**
 * Opens `path`, or a database in memory for ":memory:".
 *
 * Bun has no `node:sqlite` and Deno no `bun:sqlite`; the other module must not even be named
 * in an import that a bundler or a checker could resolve.
 */
export async function openDatabase(path: string): Promise<Database> {
  if (path !== ":memory:") makePrivate(path);
  const driver = await openDriver(path);
  const statements = new Map<string, Statement>();

  function prepare(sql: string): Statement {
    const known = statements.get(sql);
    if (known !== undefined) return known;
    const prepared = driver.prepare(sql);
    const statement: Statement = {
      run: (...values) => void prepared.run(...values),
      get: (...values) => (prepared.get(...values) ?? undefined) as Row,
      all: (...values) => prepared.all(...values) as Row[],
    };
    // Searches are composed of a few dozen parts; a bound all the same.
    if (statements.size > 500) statements.clear();
    statements.set(sql, statement);
    return statement;
  }

  return {
    exec: (sql) => void driver.exec(sql),
    prepare,
    transaction(work) {
      driver.exec("BEGIN IMMEDIATE");
      try {
        const result = work();
        driver.exec("COMMIT");
        return result;
      } catch (error) {
        driver.exec("ROLLBACK");
        throw error;
      }
    },
    [Symbol.dispose]() {
      statements.clear();
      driver.close();
    },
  };
}

async function openDriver(path: string): Promise<Driver> {
  const isBun = "bun" in process.versions;
  const name = isBun ? "bun:sqlite" : "node:sqlite";
  const module = await import(name);
  return isBun ? new module.Database(path) : new module.DatabaseSync(path);
}

/** Traces may hold prompts: only their owner reads them. */
function makePrivate(path: string): void {
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
}
