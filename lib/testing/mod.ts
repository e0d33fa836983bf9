/** What tests share: real servers, a clock moved by hand, ports, folders. */
export { createFakeClock, type FakeClock } from "./fake_clock.ts";
export { freePort } from "./free_port.ts";
export { type NatsServer, startNats, type StartNatsOptions } from "./nats.ts";
export {
  type OtlpReceiver,
  type ReceivedEvent,
  type ReceivedSpan,
  startOtlpReceiver,
} from "./otlp_receiver.ts";
export { type TempDir, tempDir } from "./temp_dir.ts";
export { waitFor, type WaitForOptions } from "./wait_for.ts";
