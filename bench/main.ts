import { isAbort } from "#async/abort.ts";
import { admission } from "./admission.ts";
import { agent } from "./agent.ts";
import { hostile } from "./hostile.ts";
import { mirror } from "./mirror.ts";
import { prefetch } from "./prefetch.ts";
import { formatResult, isMet, type Bench } from "./result.ts";
import { scale } from "./scale.ts";

const benches: Readonly<Record<string, Bench>> = {
  admission,
  agent,
  hostile,
  mirror,
  prefetch,
  scale,
};

const [, , name = "", ...args] = process.argv;
const bench = benches[name];
const stop = new AbortController();
for (const signalName of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signalName, () => stop.abort(new Error(`Received ${signalName}`)));
}

const report = (line: string): void => console.error(line);

if (bench) {
  try {
    const result = await bench({ args, report, signal: stop.signal });
    console.log(formatResult(name, result));
    if (!result.checks.every(isMet)) process.exitCode = 1;
  } catch (error) {
    if (!isAbort(error, stop.signal)) console.error(error);
    process.exitCode = isAbort(error, stop.signal) ? 130 : 1;
  }
} else {
  console.error(`bench: "${name}" must be one of: ${Object.keys(benches).join(", ")}`);
  process.exitCode = 2;
}
