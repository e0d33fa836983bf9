/**
 * One way to get tokens for token ids, so that the engine in this process and
 * the mesh behind gRPC are driven by the very same code. They are files of their own:
 * a process that times its own start must not load gRPC for nothing.
 */

export interface Generator extends AsyncDisposable {
  /** Yields how many tokens each message brought. */
  generate(promptIds: Int32Array, maxTokens: number): AsyncIterable<number>;
}
