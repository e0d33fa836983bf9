/** @jsxImportSource preact */
interface SparklineProps {
  readonly values: readonly number[];
  /** Read to those who do not see it. */
  readonly label: string;
  readonly width?: number;
  readonly height?: number;
  /** Drawn in the colour of errors, on the same scale. */
  readonly bad?: readonly number[];
}

/** A line over an area, oldest left. */
export function Sparkline(
  { values, label, bad, width = 240, height = 36 }: SparklineProps,
) {
  const max = Math.max(1e-9, ...values, ...(bad ?? []));
  const line = points(values, max, width, height);
  const hasBad = bad?.some((value) => value > 0);
  return (
    <svg
      class="sparkline"
      viewBox={`0 0 ${width} ${height}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      {values.length > 1 && (
        <>
          <path
            class="area"
            d={`M0,${height} L${line} L${width},${height} Z`}
          />
          <path
            class="line"
            d={`M${line}`}
            vector-effect="non-scaling-stroke"
          />
          {hasBad && (
            <path
              class="line bad"
              d={`M${points(bad!, max, width, height)}`}
              vector-effect="non-scaling-stroke"
            />
          )}
        </>
      )}
    </svg>
  );
}

function points(
  values: readonly number[],
  max: number,
  width: number,
  height: number,
): string {
  const last = Math.max(1, values.length - 1);
  return values.map((value, i) =>
    `${round(i / last * width)},${
      round(height - 2 - value / max * (height - 4))
    }`
  ).join(" L");
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
