const days = [
  "Sunday",
  "Monday",
  "Tuesday",
  "Wednesday",
  "Thursday",
  "Friday",
  "Saturday",
];
const months = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

const pad = (value: number, width = 2) => String(value).padStart(width, "0");

/** The directives of Python's `strftime` that chat templates use, in UTC. */
const directives: Readonly<Record<string, (time: Date) => string>> = {
  "a": (time) => days[time.getUTCDay()]!.slice(0, 3),
  "A": (time) => days[time.getUTCDay()]!,
  "b": (time) => months[time.getUTCMonth()]!.slice(0, 3),
  "B": (time) => months[time.getUTCMonth()]!,
  "d": (time) => pad(time.getUTCDate()),
  "-d": (time) => String(time.getUTCDate()),
  "e": (time) => String(time.getUTCDate()).padStart(2),
  "F": (time) => time.toISOString().slice(0, 10),
  "H": (time) => pad(time.getUTCHours()),
  "I": (time) => pad((time.getUTCHours() + 11) % 12 + 1),
  "m": (time) => pad(time.getUTCMonth() + 1),
  "-m": (time) => String(time.getUTCMonth() + 1),
  "M": (time) => pad(time.getUTCMinutes()),
  "p": (time) => time.getUTCHours() < 12 ? "AM" : "PM",
  "S": (time) => pad(time.getUTCSeconds()),
  "T": (time) => time.toISOString().slice(11, 19),
  "y": (time) => pad(time.getUTCFullYear() % 100),
  "Y": (time) => String(time.getUTCFullYear()),
  "Z": () => "UTC",
  "%": () => "%",
};

/** Formats a time as `strftime` does; an unknown directive stays as written. */
export function formatTime(time: Date, format: string): string {
  return format.replace(
    /%(-?[a-zA-Z%])/g,
    (written, directive: string) => directives[directive]?.(time) ?? written,
  );
}
