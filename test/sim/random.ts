/**
 * Seeded random numbers: sfc32, seeded from any text, so that every model's
 * arrivals are the same whatever else is simulated beside it.
 */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  exponential(): number;
  normal(): number;
  /** Mean `shape`, variance `shape`. */
  gamma(shape: number): number;
  /** Scale 1. */
  weibull(shape: number): number;
}

/** 32-bit FNV-1a of a text. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return hash >>> 0;
}

export function createRandom(seed: string): Random {
  let a = hashText(`${seed}#a`) | 0;
  let b = hashText(`${seed}#b`) | 0;
  let c = hashText(`${seed}#c`) | 0;
  let d = 1;
  const next = () => {
    const sum = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + sum) | 0;
    return (sum >>> 0) / 4294967296;
  };
  for (let i = 0; i < 16; i++) next();
  const open = () => 1 - next();
  const exponential = () => -Math.log(open());
  const normal = () =>
    Math.sqrt(-2 * Math.log(open())) * Math.cos(2 * Math.PI * next());
  // Marsaglia and Tsang (2000); shapes under 1 by the power of a uniform.
  const gamma = (shape: number): number => {
    if (shape < 1) {
      return gamma(shape + 1) * Math.pow(open(), 1 / shape);
    }
    const third = shape - 1 / 3;
    const spread = 1 / Math.sqrt(9 * third);
    while (true) {
      const x = normal();
      const cube = (1 + spread * x) ** 3;
      if (cube <= 0) continue;
      const limit = 0.5 * x * x + third - third * cube +
        third * Math.log(cube);
      if (Math.log(open()) < limit) return third * cube;
    }
  };
  return {
    next,
    exponential,
    normal,
    gamma,
    weibull: (shape) => Math.pow(exponential(), 1 / shape),
  };
}

/** Gamma function (Lanczos), for the mean of a Weibull distribution. */
export function gammaFunction(x: number): number {
  const g = [
    676.5203681218851,
    -1259.1392167224028,
    771.32342877765313,
    -176.61502916214059,
    12.507343278686905,
    -0.13857109526572012,
    9.9843695780195716e-6,
    1.5056327351493116e-7,
  ];
  const z = x - 1;
  let sum = 0.99999999999980993;
  for (let i = 0; i < g.length; i++) sum += g[i] / (z + i + 1);
  const t = z + g.length - 0.5;
  return Math.sqrt(2 * Math.PI) * t ** (z + 0.5) * Math.exp(-t) * sum;
}
