/**
 * `deno task record`: writes what an autoscaler would hear to a file, one JSON
 * object a line, for `deno task simulate --trace`.
 */
import { parseArgs } from "node:util";
import { connectBus } from "../../lib/bus/mod.ts";
import { MeshError } from "../../lib/errors/mesh_error.ts";
import { recordBus } from "./record_bus.ts";

const help = `deno task record [--nats URL] [--out FILE] [--seconds N]

  --nats URL      NATS of the mesh (default $QUETZAL_NATS_URL or nats://127.0.0.1:4222)
  --out FILE      where to write (default recording.jsonl)
  --seconds N     stop after this long (default: until Ctrl-C)`;

const { values } = parseArgs({
  options: {
    nats: {
      type: "string",
      default: process.env.QUETZAL_NATS_URL ?? "nats://127.0.0.1:4222",
    },
    out: { type: "string", default: "recording.jsonl" },
    seconds: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => stop.abort());
}
if (values.seconds) {
  setTimeout(() => stop.abort(), Number(values.seconds) * 1000).unref();
}
try {
  await using bus = await connectBus({
    url: values.nats,
    name: "record",
    signal: stop.signal,
  });
  const lines = await recordBus(bus, values.out, stop.signal);
  console.error(`${lines} messages in ${values.out}`);
} catch (error) {
  if (!(error instanceof MeshError)) throw error;
  console.error(error.message);
  process.exit(1);
}
