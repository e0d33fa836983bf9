import { equal } from "node:assert/strict";
import { test } from "vitest";
import { mirrorIn } from "./source_package.ts";

const lists = [
  {
    label: "deb822",
    text: `Types: deb
# http://snapshot.debian.org/archive/debian/20250520T000000Z
URIs: http://mirror.example/debian
Suites: bookworm`,
    want: "http://mirror.example/debian",
  },
  {
    label: "one line",
    text: "deb [signed-by=/usr/share/k.gpg] https://mirror.example/debian/ " +
      "bookworm main",
    want: "https://mirror.example/debian",
  },
  {
    label: "a comment",
    text: "# deb http://old.example/debian bookworm main",
    want: undefined,
  },
  {
    label: "another archive",
    text: "deb http://mirror.example/debian-security bookworm-security main",
    want: undefined,
  },
];

for (const { label, text, want } of lists) {
  test(`mirrorIn() of ${label} is ${want}`, () => {
    equal(mirrorIn([text]), want);
  });
}
