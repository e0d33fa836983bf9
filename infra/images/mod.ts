/** Container images without Docker and without a registry; `main.ts` is the command. */
export { type Layer, packLayer, writeArchive } from "./archive.ts";
export {
  buildImages,
  type BuildImagesOptions,
  type BuiltImage,
} from "./build.ts";
export {
  type ImageName,
  imageNames,
  images,
  type ImageSpec,
  user,
} from "./specs.ts";
