/** A gRPC client that learns a service from the server's reflection alone. */
import * as grpc from "@grpc/grpc-js";
import { fromJSON, loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";

export interface ReflectedClient extends Disposable {
  /** All messages of a server-streaming call, fields named as in the proto. */
  stream(method: string, request: object): Promise<object[]>;
}

/** The messages of the reflection protocol (v1) that this client needs. */
const reflection = grpc.loadPackageDefinition(fromJSON({
  nested: {
    grpc: {
      nested: {
        reflection: {
          nested: {
            v1: {
              nested: {
                ServerReflection: {
                  methods: {
                    ServerReflectionInfo: {
                      requestType: "Request",
                      requestStream: true,
                      responseType: "Response",
                      responseStream: true,
                      comment: "",
                    },
                  },
                },
                Request: {
                  oneofs: {
                    message_request: {
                      oneof: ["fileByFilename", "fileContainingSymbol"],
                    },
                  },
                  fields: {
                    fileByFilename: { type: "string", id: 3 },
                    fileContainingSymbol: { type: "string", id: 4 },
                  },
                },
                Response: {
                  fields: { fileDescriptorResponse: { type: "Files", id: 4 } },
                },
                Files: {
                  fields: {
                    fileDescriptorProto: {
                      rule: "repeated",
                      type: "bytes",
                      id: 1,
                    },
                  },
                },
              },
            },
          },
        },
      },
    },
  },
}));

export async function reflectedClient(
  address: string,
  service: string,
): Promise<ReflectedClient> {
  const set = await fetchDescriptors(address, service);
  const definition = loadFileDescriptorSetFromBuffer(set, {
    keepCase: true,
    defaults: true,
    oneofs: true,
  });
  const ServiceClient = member(grpc.loadPackageDefinition(definition), service);
  const client = new ServiceClient(address, grpc.credentials.createInsecure());
  return {
    stream: (method, request) =>
      new Promise((resolve, reject) => {
        const messages: object[] = [];
        // deno-lint-ignore no-explicit-any
        const call = (client as any)[method](
          request,
        ) as grpc.ClientReadableStream<object>;
        call.on("data", (message) => messages.push(message));
        call.on("error", reject);
        call.on("end", () => resolve(messages));
      }),
    [Symbol.dispose]: () => client.close(),
  };
}

/** The file that declares the service and all it imports, as a FileDescriptorSet. */
async function fetchDescriptors(
  address: string,
  symbol: string,
): Promise<Buffer> {
  const Client = member(reflection, "grpc.reflection.v1.ServerReflection");
  const client = new Client(address, grpc.credentials.createInsecure());
  const files = await new Promise<Buffer[]>((resolve, reject) => {
    // deno-lint-ignore no-explicit-any
    const call = (client as any).ServerReflectionInfo();
    call.on(
      "data",
      (
        response: {
          fileDescriptorResponse?: { fileDescriptorProto: Buffer[] };
        },
      ) => {
        call.end();
        resolve(response.fileDescriptorResponse?.fileDescriptorProto ?? []);
      },
    );
    call.on("error", reject);
    call.write({ fileContainingSymbol: symbol });
  });
  client.close();
  return Buffer.concat(files.map(asSetEntry));
}

/** Field 1 of FileDescriptorSet, length-delimited. */
function asSetEntry(file: Uint8Array): Buffer {
  const header = [0x0a];
  for (let rest = file.length;; rest >>>= 7) {
    if (rest < 0x80) {
      header.push(rest);
      break;
    }
    header.push((rest & 0x7f) | 0x80);
  }
  return Buffer.concat([Buffer.from(header), file]);
}

function member(
  root: grpc.GrpcObject,
  path: string,
): grpc.ServiceClientConstructor {
  const found = path.split(".").reduce<unknown>(
    (at, name) => (at as Record<string, unknown> | undefined)?.[name],
    root,
  );
  if (typeof found !== "function") {
    throw new Error(`Cannot find ${path} by reflection`);
  }
  return found as grpc.ServiceClientConstructor;
}
