import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "vitest";
import { clusterHelp, parseClusterFlags } from "./flags.ts";

const place = { env: {}, root: "/checkout" };

test("a plain command means a control plane under .quetzal", () => {
  deepEqual(parseClusterFlags(["up"], place), {
    action: "up",
    mode: "control",
    folder: "/checkout/.quetzal/cluster-control",
    images: [],
    json: false,
  });
});

test("--data is meant from where it was typed", () => {
  const command = parseClusterFlags(
    ["status", "--mode", "node", "--data", "x", "--json"],
    { ...place, env: { INIT_CWD: "/home/me" } },
  );
  deepEqual(command, {
    action: "status",
    mode: "node",
    folder: "/home/me/x",
    images: [],
    json: true,
  });
});

const wrong = [
  { args: [], want: /the command is "", expected one of up, down, status/ },
  { args: ["start"], want: /the command is "start"/ },
  { args: ["up", "down"], want: /the command is "up down"/ },
  {
    args: ["up", "--mode", "full"],
    want: /--mode is "full", expected one of control, node/,
  },
  { args: ["stop", "--mode", "x"], want: /"stop".*; --mode is "x"/ },
  {
    args: ["up", "--image", "/none.tar"],
    want: /--image needs --mode node.*; --image \/none.tar does not exist/,
  },
  { args: ["up", "--port", "1"], want: /Unknown option '--port'/ },
];

for (const { args, want } of wrong) {
  test(`"cluster ${args.join(" ")}" is refused`, () => {
    throws(() => parseClusterFlags(args, place), want);
  });
}

test("--help names every flag that is read", () => {
  for (const flag of ["--mode", "--data", "--image", "--json", "--help"]) {
    equal(clusterHelp.includes(`\n  ${flag}`), true, flag);
  }
  equal(parseClusterFlags(["--help"], place), "help");
});
