/** A worker process on the plain reference arithmetic: `reference_worker.ts prefill|decode`. */
import { referenceNative } from "../../../lib/engine/testing/reference_native.ts";
import { crc32cTable } from "../../../lib/kv_transport/mod.ts";
import { runWorker } from "../../../lib/worker/mod.ts";
import * as decode from "../../../services/decode/config.ts";
import { decodeRole } from "../../../services/decode/role.ts";
import * as prefill from "../../../services/prefill/config.ts";
import { prefillRole } from "../../../services/prefill/role.ts";

const native = { ...referenceNative, crc32c: crc32cTable };

function runPrefill(): Promise<number> {
  const config = prefill.parseConfig(process.env);
  return runWorker({
    role: "prefill",
    config,
    native,
    build: (parts) => prefillRole(config, parts),
  });
}

function runDecode(): Promise<number> {
  const config = decode.parseConfig(process.env);
  return runWorker({
    role: "decode",
    config,
    native,
    build: (parts) => decodeRole(config, parts),
  });
}

process.exit(
  await (process.argv[2] === "prefill" ? runPrefill() : runDecode()),
);
