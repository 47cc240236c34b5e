import { cp, mkdir, readdir } from "node:fs/promises";
import { resolve } from "node:path";

import { buildCoralImage } from "#sandbox/images/coral-image.ts";

const [, , folder] = process.argv;
if (folder === undefined) {
  console.error("Usage: npm run image -- FOLDER");
  process.exitCode = 2;
} else {
  await mkdir(folder, { recursive: true });
  if ((await readdir(folder)).length > 0) {
    console.error(`image: folder "${folder}" must be empty`);
    process.exitCode = 2;
  } else {
    const image = await buildCoralImage({ signal: AbortSignal.timeout(10 * 60_000) });
    await cp(image.folder, folder, { recursive: true });
    const megabytes = (image.sizeBytes / 1e6).toFixed(1);
    console.log(`${resolve(folder)}: OCI layout, ${megabytes} MB to download`);
  }
}
