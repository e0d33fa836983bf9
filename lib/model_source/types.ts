/** Where a model's GGUF file comes from. */
export type ModelSource = PathSource | UrlSource;

export interface PathSource {
  /** On this machine's file system. */
  readonly path: string;
  /** 64 hex digits; the file is checked against it when given. */
  readonly sha256?: string;
}

export interface UrlSource {
  /** http or https. */
  readonly url: string;
  /** 64 hex digits: nothing unchecked from the network is run. */
  readonly sha256: string;
}

export function isUrlSource(source: ModelSource): source is UrlSource {
  return "url" in source;
}

export function isSameSource(a: ModelSource, b: ModelSource): boolean {
  const place = (source: ModelSource) =>
    isUrlSource(source) ? `url ${source.url}` : `path ${source.path}`;
  return place(a) === place(b) && a.sha256 === b.sha256;
}

/** For logs and errors; a URL's query and password stay out of them. */
export function sourceText(source: ModelSource): string {
  if (!isUrlSource(source)) return source.path;
  const { protocol, host, pathname } = new URL(source.url);
  return `${protocol}//${host}${pathname}`;
}
