import { cp, mkdir, readdir } from "node:fs/promises";
import { resolve } from "node:path";

import { ensureDebianPackages } from "#sandbox/debian-packages.ts";
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
    const signal = AbortSignal.timeout(30 * 60_000);
    await ensureDebianPackages({ report: (line) => console.error(line), signal });
    const image = await buildCoralImage({ signal });
    await cp(image.folder, folder, { recursive: true });
    const megabytes = (image.sizeBytes / 1e6).toFixed(1);
    console.log(`${resolve(folder)}: OCI layout, ${megabytes} MB to download`);
  }
}
