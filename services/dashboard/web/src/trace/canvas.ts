/** Drawing on a canvas that is as sharp as the screen and as coloured as the theme. */
import { useEffect, useRef, useState } from "preact/hooks";
import { theme } from "../parts/theme.tsx";

export interface Painter {
  readonly context: CanvasRenderingContext2D;
  readonly width: number;
  readonly height: number;
  /** The value of a colour variable of the style sheet. */
  color(name: string): string;
}

/** Paints after layout and whenever the size, the theme or `inputs` change. */
export function useCanvas(
  paint: (painter: Painter) => void,
  inputs: readonly unknown[],
) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [scheme, setScheme] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      setSize({ width, height });
    });
    observer.observe(canvas.current!);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setScheme((count) => count + 1);
    dark.addEventListener("change", changed);
    return () => {
      observer.disconnect();
      dark.removeEventListener("change", changed);
    };
  }, []);
  useEffect(() => {
    const element = canvas.current!;
    const { width, height } = size;
    if (width === 0) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    element.width = Math.round(width * ratio);
    element.height = Math.round(height * ratio);
    const context = element.getContext("2d")!;
    context.scale(ratio, ratio);
    paint({ context, width, height, color: colorsOf(element) });
  }, [size, scheme, theme.value, ...inputs]);
  return canvas;
}

/** Custom properties hold formulas; only a used colour is a colour. */
function colorsOf(element: HTMLElement): (name: string) => string {
  const known = new Map<string, string>();
  return (name) => {
    let color = known.get(name);
    if (color === undefined) {
      element.style.color = `var(--${name})`;
      color = getComputedStyle(element).color;
      element.style.color = "";
      known.set(name, color);
    }
    return color;
  };
}
