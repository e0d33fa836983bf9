/** @jsxImportSource preact */
import { useEffect, useRef } from "preact/hooks";
import type { Facet, Facets } from "../../../api_types.ts";
import { query, setQuery } from "../navigation/address.ts";
import { tame } from "../parts/foreign.tsx";
import {
  activeFilters,
  defaultRange,
  filterNames,
  rangeOf,
  ranges,
  spans,
} from "./filters.ts";

/** What the list is narrowed to; every change goes into the address at once. */
export function FilterBar({ facets }: { facets: Facets | undefined }) {
  const active = activeFilters(query.value);
  const hasMore =
    spans.some(({ name }) =>
      query.value.has(`${name}Min`) || query.value.has(`${name}Max`)
    ) || query.value.has("worker");
  return (
    <form
      class="filters"
      role="search"
      aria-label="Filter requests"
      onSubmit={(event) => event.preventDefault()}
    >
      <div class="filter-row">
        <TextFilter
          name="traceId"
          label="Trace id"
          focusKey
          placeholder="4+ hex digits"
        />
        <ChoiceFilter name="model" label="Model" facets={facets?.models} />
        <ChoiceFilter name="tenant" label="Tenant" facets={facets?.tenants} />
        <SelectFilter
          name="status"
          label="Result"
          options={[["", "any"], ["ok", "ok"], ["error", "error"], [
            "cancelled",
            "cancelled",
          ]]}
        />
        <SelectFilter
          name="range"
          label="Last"
          fallback={defaultRange}
          options={Object.entries(ranges).map(([name, { label }]) => [
            name,
            label,
          ])}
          value={rangeOf(query.value)}
        />
        <SelectFilter
          name="order"
          label="Order"
          fallback="newest"
          options={["newest", "oldest", "slowest", "fastest"].map((
            name,
          ) => [name, name])}
        />
      </div>
      <details class="more-filters" open={hasMore}>
        <summary>
          Duration, tokens, worker
          {active.length > 0 && (
            <span class="muted">
              {` · ${active.length} filter${
                active.length > 1 ? "s" : ""
              } active`}
            </span>
          )}
        </summary>
        <div class="filter-row">
          {spans.map(({ name, label }) => (
            <fieldset key={name} class="span-filter">
              <legend>{label}</legend>
              <TextFilter
                name={`${name}Min`}
                label={`${label}, at least`}
                number
                placeholder="min"
                bare
              />
              <span aria-hidden="true">–</span>
              <TextFilter
                name={`${name}Max`}
                label={`${label}, at most`}
                number
                placeholder="max"
                bare
              />
            </fieldset>
          ))}
          <ChoiceFilter name="worker" label="Worker" facets={facets?.workers} />
        </div>
      </details>
      {active.length > 0 && (
        <button
          type="button"
          class="button"
          onClick={() =>
            setQuery(
              Object.fromEntries(filterNames.map((name) => [name, undefined])),
            )}
        >
          Clear filters
        </button>
      )}
    </form>
  );
}

interface TextFilterProps {
  readonly name: string;
  readonly label: string;
  readonly placeholder?: string;
  readonly number?: boolean;
  /** Its label is read, not shown. */
  readonly bare?: boolean;
  /** The one that `/` goes to. */
  readonly focusKey?: boolean;
}

/** Writes to the address when typing pauses, so that the service is not asked per letter. */
function TextFilter(
  { name, label, placeholder, number, bare, focusKey }: TextFilterProps,
) {
  const value = query.value.get(name) ?? "";
  const input = useRef<HTMLInputElement>(null);
  const timer = useRef<number | undefined>(undefined);
  useEffect(() => {
    // Whoever types knows better than an address that is a quarter of a second old.
    const element = input.current!;
    if (document.activeElement !== element) element.value = value;
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const commit = () => {
    clearTimeout(timer.current);
    setQuery({ [name]: input.current!.value.trim() });
  };
  return (
    <label class="field">
      <span class={bare ? "visually-hidden" : undefined}>{label}</span>
      <input
        ref={input}
        name={name}
        type="search"
        inputMode={number ? "numeric" : undefined}
        placeholder={placeholder}
        defaultValue={value}
        data-first-filter={focusKey ? "" : undefined}
        spellcheck={false}
        autocomplete="off"
        onInput={() => {
          clearTimeout(timer.current);
          timer.current = setTimeout(commit, 250) as unknown as number;
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter") commit();
          if (event.key === "Escape") event.currentTarget.blur();
        }}
        onChange={commit}
      />
    </label>
  );
}

/** One of the values that were seen; an unseen one in the address stays choosable. */
function ChoiceFilter(
  { name, label, facets }: {
    name: string;
    label: string;
    facets: readonly Facet[] | undefined;
  },
) {
  const value = query.value.get(name) ?? "";
  const seen = facets ?? [];
  const options: [string, string][] = [
    ["", "any"],
    ...(value && !seen.some((facet) => facet.value === value)
      ? [[value, tame(value, 60)] as [string, string]]
      : []),
    ...seen.map((facet): [string, string] => [
      facet.value,
      `${tame(facet.value, 60)} (${facet.count})`,
    ]),
  ];
  return <SelectFilter name={name} label={label} options={options} />;
}

function SelectFilter(
  { name, label, options, fallback = "", value }: {
    name: string;
    label: string;
    options: readonly (readonly string[])[];
    /** The value that needs no mention in the address. */
    fallback?: string;
    value?: string;
  },
) {
  return (
    <label class="field">
      <span>{label}</span>
      <select
        name={name}
        value={value ?? query.value.get(name) ?? fallback}
        onChange={({ currentTarget }) =>
          setQuery({
            [name]: currentTarget.value === fallback
              ? undefined
              : currentTarget.value,
          })}
      >
        {options.map(([key, text]) => (
          <option key={key} value={key}>{text}</option>
        ))}
      </select>
    </label>
  );
}
