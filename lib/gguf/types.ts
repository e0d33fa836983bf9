/** What a GGUF v3 file declares; tensor bytes stay in the file. */
export interface GgufFile {
  readonly path: string;
  readonly version: number;
  readonly alignment: number;
  readonly fileBytes: number;
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

export interface GgufTensor {
  readonly name: string;
  /** ggml type id, see `ggml_types.ts` */
  readonly type: number;
  /** ne[0] first: the contiguous dimension (input features) */
  readonly dims: readonly number[];
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

export type GgufScalar = number | bigint | boolean | string;
/** Numeric arrays are typed arrays of the stored type. */
export type GgufArray =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Float32Array
  | Float64Array
  | readonly boolean[]
  | readonly string[];
export type GgufValue = GgufScalar | GgufArray;

/** Typed look-ups; a missing or mistyped key throws, naming file, key, needed, found. */
export interface GgufMetadata {
  readonly keys: readonly string[];
  get(key: string): GgufValue | undefined;
  string(key: string): string;
  string(key: string, fallback: string): string;
  /** An integer of any stored width that fits a double exactly. */
  integer(key: string, fallback?: number): number;
  number(key: string, fallback?: number): number;
  boolean(key: string, fallback?: boolean): boolean;
  strings(key: string): readonly string[];
  strings(key: string, fallback: readonly string[]): readonly string[];
}
