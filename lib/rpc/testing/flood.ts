/**
 * Prints how many 10 kB messages a server could write in 600 ms to a client that
 * has read one of them. Run by `backpressure.test.ts` under Bun.
 */
import {
  type GenerateRequest,
  type GenerateResponse,
  InferenceClient,
  InferenceService,
} from "../../../proto/gen/quetzal/v1/inference.ts";
import { GenerateRequest as Request } from "../../../proto/gen/quetzal/v1/inference.ts";
import { callStream, connect, serverStream, startRpcServer } from "../mod.ts";

let written = 0;
const text = "x".repeat(10_000);
const server = await startRpcServer({
  port: 0,
  services: [{
    name: "quetzal.v1.Inference",
    definition: InferenceService,
    implementation: {
      generate: serverStream<GenerateRequest, GenerateResponse>(
        async (_request, call, sink) => {
          for (; written < 50_000 && !call.signal.aborted; written++) {
            await sink.write({
              event: { $case: "delta", value: { text, tokens: [] } },
            });
          }
        },
        () => ({ event: undefined }),
      ),
      tokenize: () => {},
      detokenize: () => {},
      listModels: () => {},
    },
  }],
});
const client = connect(InferenceClient, `127.0.0.1:${server.port}`);
const request = Request.fromPartial({});
const method = client.generate.bind(client);
for await (const _ of callStream(method, request, { bufferMax: 4 })) {
  await new Promise((resolve) => setTimeout(resolve, 600));
  console.log(written);
  break;
}
process.exit(0);
