import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import fc from "fast-check";
import { StopScanner } from "./stop_strings.ts";

test("scan() finds a stop string across pieces", () => {
  const scanner = new StopScanner(["\n\nUser:"]);
  equal(scanner.scan("Hello\n"), undefined);
  equal(scanner.heldCount, 1);
  equal(scanner.scan("\nUs"), undefined);
  equal(scanner.heldCount, 4);
  deepEqual(scanner.scan("er: hi"), { stop: "\n\nUser:", end: 3 });
});

test("heldCount falls back to the longest tail that may still match", () => {
  const scanner = new StopScanner(["abac"]);
  scanner.scan("aba");
  equal(scanner.heldCount, 3);
  scanner.scan("b");
  equal(scanner.heldCount, 2);
  scanner.scan("x");
  equal(scanner.heldCount, 0);
});

test("the first character that completes any stop ends the text, the longest one counts", () => {
  deepEqual(new StopScanner(["bc", "abc", "abcd"]).scan("xabcd"), {
    stop: "abc",
    end: 4,
  });
});

/** Tries every end of the text in turn. */
function expected(text: string, stops: readonly string[]): string | undefined {
  for (let end = 1; end <= text.length; end++) {
    const matches = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    const longest = Math.max(0, ...matches.map((stop) => stop.length));
    if (longest > 0) return text.slice(0, end - longest);
  }
  return undefined;
}

test("any cutting into pieces finds what a search of the whole text finds", () => {
  const letters = fc.string({
    unit: fc.constantFrom("a", "b", "é"),
    minLength: 1,
    maxLength: 5,
  });
  fc.assert(
    fc.property(
      fc.array(letters, { minLength: 1, maxLength: 4 }),
      fc.array(letters, { maxLength: 12 }),
      (stops, pieces) => {
        const scanner = new StopScanner(stops);
        let seen = "";
        let cut: string | undefined;
        for (const piece of pieces) {
          const match = scanner.scan(piece);
          if (match) {
            cut = (seen + piece.slice(0, match.end)).slice(
              0,
              -match.stop.length,
            );
            break;
          }
          seen += piece;
          // What is not held is safe: no stop can begin in it any more.
          const tail = seen.slice(seen.length - scanner.heldCount);
          equal(
            stops.some((stop) => tail !== "" && stop.startsWith(tail)),
            tail !== "",
          );
        }
        equal(cut, expected(pieces.join(""), stops));
      },
    ),
    { numRuns: 2_000 },
  );
});

test("a repetitive stop string costs linear time", () => {
  const scanner = new StopScanner(
    Array.from({ length: 16 }, (_, i) => "a".repeat(1_000 + i) + "b"),
  );
  const startMs = performance.now();
  for (let i = 0; i < 5_000; i++) scanner.scan("aaaaaaaaaa");
  const tookMs = performance.now() - startMs;
  // Measured 20 ms; searching each time anew would take minutes.
  equal(tookMs < 2_000, true, `took ${tookMs} ms`);
});
