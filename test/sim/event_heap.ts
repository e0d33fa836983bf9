/** Events by time; equal times keep the order in which they were added. */
export interface EventHeap<Event> {
  readonly nextMs: number;
  push(atMs: number, event: Event): void;
  pop(): Event | undefined;
}

export function createEventHeap<Event>(): EventHeap<Event> {
  const times: number[] = [];
  const orders: number[] = [];
  const events: Event[] = [];
  let order = 0;
  const before = (a: number, b: number) =>
    times[a] < times[b] || (times[a] === times[b] && orders[a] < orders[b]);
  const swap = (a: number, b: number) => {
    const time = times[a], place = orders[a], event = events[a];
    times[a] = times[b];
    orders[a] = orders[b];
    events[a] = events[b];
    times[b] = time;
    orders[b] = place;
    events[b] = event;
  };
  return {
    get nextMs() {
      return times.length ? times[0] : Infinity;
    },
    push(atMs, event) {
      let at = times.length;
      times.push(atMs);
      orders.push(order++);
      events.push(event);
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (!before(at, parent)) break;
        swap(at, parent);
        at = parent;
      }
    },
    pop() {
      if (times.length === 0) return undefined;
      const top = events[0];
      swap(0, times.length - 1);
      times.pop();
      orders.pop();
      events.pop();
      for (let at = 0;;) {
        const left = 2 * at + 1;
        if (left >= times.length) break;
        const right = left + 1;
        const child = right < times.length && before(right, left)
          ? right
          : left;
        if (!before(child, at)) break;
        swap(child, at);
        at = child;
      }
      return top;
    },
  };
}
