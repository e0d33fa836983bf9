/**
 * Finds which of many texts begins at a place of a longer one.
 *
 * Vocabularies have hundreds of control tokens that all begin with `<`; asking each
 * of them at every `<` of a prompt of megabytes would hold its process for minutes.
 * Here a place costs as many steps as characters of it begin some text.
 */
export class TextTrie<T> {
  readonly #root: Node<T> = { next: new Map(), value: undefined };
  readonly #lengths = new Set<number>();

  /** Lengths of the texts, longest first. */
  get lengths(): readonly number[] {
    return [...this.#lengths].sort((a, b) => b - a);
  }

  add(text: string, value: T): void {
    let node = this.#root;
    for (let at = 0; at < text.length; at++) {
      const unit = text.charCodeAt(at);
      let next = node.next.get(unit);
      if (next === undefined) {
        node.next.set(unit, next = { next: new Map(), value: undefined });
      }
      node = next;
    }
    node.value = value;
    this.#lengths.add(text.length);
  }

  /** The longest text at `start` that is accepted. */
  longestAt(
    text: string,
    start: number,
    accepts: (value: T, length: number) => boolean = () => true,
  ): { readonly length: number; readonly value: T } | undefined {
    let node = this.#root.next.get(text.charCodeAt(start));
    let found: { length: number; value: T } | undefined;
    for (let at = start + 1; node !== undefined; at++) {
      const { value } = node;
      if (value !== undefined && accepts(value, at - start)) {
        found = { length: at - start, value };
      }
      node = at < text.length ? node.next.get(text.charCodeAt(at)) : undefined;
    }
    return found;
  }
}

interface Node<T> {
  readonly next: Map<number, Node<T>>;
  /** Of the text that ends here. */
  value: T | undefined;
}
