/** @jsxImportSource preact */
const shapes = {
  requests: "M4 6h16M4 12h16M4 18h10",
  mesh:
    "M12 5v5M7.500 17l3-5M16.500 17l-3-5M12 5m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0M6 19m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0M18 19m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0",
  models:
    "M12 3l8 4.500v9L12 21l-8-4.500v-9zM12 12l8-4.500M12 12v9M12 12L4 7.500",
  speculation: "M4 18l5-6 4 3 7-9M15 6h5v5",
  playground: "M7 5l11 7-11 7z",
  sun:
    "M12 8a4 4 0 1 0 0 8a4 4 0 1 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500L19 19M19 5l-1.500 1.500M6.500 17.500L5 19",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500z",
  auto:
    "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 3v18M12 7h6M12 11h8.500M12 15h7.500",
  help:
    "M9 9a3 3 0 1 1 4.500 2.600c-1 .600-1.500 1.200-1.500 2.400M12 17.500v.500",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.500l4.500 4.500L19 7",
  back: "M14 6l-6 6 6 6",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l11 7-11 7z",
} as const;

export type IconName = keyof typeof shapes;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      stroke-width="1.7"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      <path d={shapes[name]} />
    </svg>
  );
}
