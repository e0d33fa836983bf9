import { equal } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  mkdirSync,
  readSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "vitest";
import { tempDir } from "../testing/mod.ts";
import { createSharedFile, openSharedFile } from "./shared_file.ts";
import { SharedFiles } from "./shared_writer.ts";

let undo: AsyncDisposableStack;
let folder: string;
beforeEach(async () => {
  undo = new AsyncDisposableStack();
  folder = undo.use(await tempDir("shm")).path;
});
afterEach(() => undo.disposeAsync());

function create(bytes = 1 << 16) {
  const file = createSharedFile(folder, bytes);
  undo.defer(() => closeSync(file.fd));
  return file;
}

const opens = (name: string, key: Uint8Array) => {
  const file = openSharedFile(folder, name, key);
  if (file) closeSync(file.fd);
  return file !== undefined;
};

test("openSharedFile() opens what createSharedFile() made, and nothing else", () => {
  const { name, key } = create();
  equal(opens(name, key), true);
  equal(opens(name, randomBytes(16)), false);
  equal(opens(name, key.subarray(1)), false);
  equal(opens(`../${name}`, key), false);
  equal(opens("", key), false);

  const named = () => `quetzal-kv-${randomBytes(16).toString("hex")}`;
  const [link, plain, folderName] = [named(), named(), named()];
  symlinkSync(join(folder, name), join(folder, link));
  equal(opens(link, key), false);
  writeFileSync(join(folder, plain), Buffer.alloc(64));
  equal(opens(plain, key), false);
  mkdirSync(join(folder, folderName));
  equal(opens(folderName, key), false);
});

test("SharedFiles refuses rooms that are not in the file, or not of the asked size", () => {
  const { name, key, fd } = create();
  const files = undo.use(new SharedFiles(folder));
  const use = (offset: bigint, byteLength: bigint, bytes = 512) => {
    using target = files.use({ file: name, key, offset, byteLength }, bytes);
    return target !== undefined;
  };
  equal(use(4_096n, 512n), true);
  equal(use(65_536n - 512n, 512n), true);
  equal(use(65_536n - 511n, 512n), false);
  equal(use(0n, 512n), false);
  equal(use(-512n, 512n), false);
  equal(use(2n ** 62n, 512n), false);
  equal(use(4_096n, 511n), false);
  equal(use(4_096n, 0n, 0), false);
  // Once open, the key is enough.
  const offer = { file: "", key, offset: 4_096n, byteLength: 4n };
  using target = files.use(offer, 4)!;
  target.write(Uint8Array.of(1, 2, 3, 4), 0);
  const back = new Uint8Array(4);
  readSync(fd, back, 0, 4, 4_096);
  equal(back.join(), "1,2,3,4");
  equal(files.count, 1);
});
