/** The names of a metric's labels, each with every value it may take. */
export type Labels = Readonly<Record<string, readonly string[]>>;

/** One value for each label. */
export type LabelValues<L extends Labels> = { readonly [Name in keyof L]: L[Name][number] };

export interface MetricOptions<L extends Labels> {
  /** `coral_<subsystem>_<what>_<unit>`; a counter's ends in `_total`. */
  name: string;
  /** One sentence for whoever reads the page of metrics. */
  help: string;
  /** Small closed sets. Each combination is there from the start, at 0. */
  labels?: L;
}

export interface Counter<L extends Labels> {
  /** Adds 1, or `by`, which may not be negative. */
  inc(labels: LabelValues<L>, by?: number): void;
}

export interface Gauge<L extends Labels> {
  set(labels: LabelValues<L>, value: number): void;
  /** Adds `by`, which may be negative. */
  add(labels: LabelValues<L>, by: number): void;
}

export interface Histogram<L extends Labels> {
  observe(labels: LabelValues<L>, value: number): void;
}

/** What `Registry.render()` returns: Prometheus' text exposition format 0.0.4. */
export const metricsContentType = "text/plain; version=0.0.4; charset=utf-8";

/**
 * Holds a process's metrics.
 *
 * Declaring a metric again with other label values adds those, so that each of several work queues
 * can bring its own `controller`; with another type, help or label names it throws.
 *
 * ```ts
 * const registry = new Registry();
 * const pulls = registry.counter({
 *   name: "coral_image_pulls_total",
 *   help: "Images pulled onto this node.",
 *   labels: { result: ["ok", "error"] },
 * });
 * pulls.inc({ result: "ok" });
 * ```
 */
export class Registry {
  readonly #families = new Map<string, Family>();

  /** Declares a number that only grows. */
  counter<const L extends Labels = {}>(options: MetricOptions<L>): Counter<L> {
    if (!options.name.endsWith("_total")) {
      throw new TypeError(`Counter "${options.name}" must end in "_total"`);
    }
    const family = this.#declare("counter", options, []);
    return {
      inc(labels, by = 1) {
        if (!(by >= 0)) throw new RangeError(`Counter "${options.name}" must grow, got ${by}`);
        family.series(labels).sum += by;
      },
    };
  }

  /** Declares a number that goes up and down. */
  gauge<const L extends Labels = {}>(options: MetricOptions<L>): Gauge<L> {
    const family = this.#declare("gauge", options, []);
    return {
      set(labels, value) {
        family.series(labels).sum = value;
      },
      add(labels, by) {
        family.series(labels).sum += by;
      },
    };
  }

  /** Declares a distribution. `buckets` are upper bounds, ascending; `+Inf` is added. */
  histogram<const L extends Labels = {}>(
    options: MetricOptions<L> & { buckets: readonly number[] },
  ): Histogram<L> {
    const { buckets } = options;
    const family = this.#declare("histogram", options, buckets);
    return {
      observe(labels, value) {
        const series = family.series(labels);
        series.sum += value;
        series.count++;
        const index = buckets.findIndex((bound) => value <= bound);
        if (index >= 0) series.buckets[index] = (series.buckets[index] ?? 0) + 1;
      },
    };
  }

  /** Formats every metric, in the order of declaration. */
  render(): string {
    return [...this.#families.values()].map((family) => family.render()).join("");
  }

  #declare(type: MetricType, options: MetricOptions<Labels>, buckets: readonly number[]): Family {
    const { name, help, labels = {} } = options;
    const family = this.#families.get(name) ?? new Family(type, name, help, labels, buckets);
    family.extend(type, help, labels, buckets);
    this.#families.set(name, family);
    return family;
  }
}

type MetricType = "counter" | "gauge" | "histogram";

interface Series {
  labels: string;
  sum: number;
  count: number;
  /** Observations per bucket, not yet cumulative. */
  buckets: number[];
}

/** Everything under one metric name. */
class Family {
  readonly #type: MetricType;
  readonly #name: string;
  readonly #help: string;
  readonly #labelNames: readonly string[];
  readonly #bounds: readonly number[];
  readonly #series = new Map<string, Series>();

  constructor(
    type: MetricType,
    name: string,
    help: string,
    labels: Labels,
    bounds: readonly number[],
  ) {
    if (!/^[a-zA-Z_:][\w:]*$/.test(name)) throw new TypeError(`Bad metric name "${name}"`);
    const labelNames = Object.keys(labels);
    const badLabel = labelNames.find((label) => !/^[a-zA-Z_]\w*$/.test(label) || label === "le");
    if (badLabel !== undefined) throw new TypeError(`Bad label name "${badLabel}" of "${name}"`);
    this.#type = type;
    this.#name = name;
    this.#help = help;
    this.#labelNames = labelNames;
    this.#bounds = bounds;
  }

  /** Starts at 0 each combination of label values that is not there yet. */
  extend(type: MetricType, help: string, labels: Labels, bounds: readonly number[]): void {
    const isSame =
      type === this.#type &&
      help === this.#help &&
      String(Object.keys(labels)) === String(this.#labelNames) &&
      String(bounds) === String(this.#bounds);
    if (!isSame) throw new TypeError(`Metric "${this.#name}" is declared in two ways`);
    for (const values of combinations(this.#labelNames.map((label) => labels[label] ?? []))) {
      const key = this.#keyOf(values);
      if (this.#series.has(key)) continue;
      this.#series.set(key, { labels: key, sum: 0, count: 0, buckets: bounds.map(() => 0) });
    }
  }

  /** Finds a series; throws for a value that was not declared, which would be an endless set. */
  series(labels: Readonly<Record<string, string>>): Series {
    const key = this.#keyOf(this.#labelNames.map((label) => String(labels[label])));
    const series = this.#series.get(key);
    if (!series) throw new RangeError(`Metric "${this.#name}" has no labels {${key}}`);
    return series;
  }

  render(): string {
    const name = this.#name;
    const lines = [`# HELP ${name} ${escape(this.#help)}`, `# TYPE ${name} ${this.#type}`];
    for (const series of this.#series.values()) {
      if (this.#type === "histogram") lines.push(...this.#renderHistogram(series));
      else lines.push(`${name}${braced(series.labels)} ${formatNumber(series.sum)}`);
    }
    return `${lines.join("\n")}\n`;
  }

  #renderHistogram({ labels, sum, count, buckets }: Series): string[] {
    const prefix = labels === "" ? "" : `${labels},`;
    let below = 0;
    return [
      ...this.#bounds.map((bound, index) => {
        below += buckets[index] ?? 0;
        return `${this.#name}_bucket{${prefix}le="${formatNumber(bound)}"} ${below}`;
      }),
      `${this.#name}_bucket{${prefix}le="+Inf"} ${count}`,
      `${this.#name}_sum${braced(labels)} ${formatNumber(sum)}`,
      `${this.#name}_count${braced(labels)} ${count}`,
    ];
  }

  #keyOf(values: readonly string[]): string {
    return this.#labelNames
      .map((label, index) => `${label}="${escape(values[index] ?? "").replaceAll('"', '\\"')}"`)
      .join(",");
  }
}

function combinations(sets: readonly (readonly string[])[]): string[][] {
  return sets.reduce<string[][]>(
    (rows, values) => rows.flatMap((row) => values.map((value) => [...row, value])),
    [[]],
  );
}

function escape(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function braced(labels: string): string {
  return labels === "" ? "" : `{${labels}}`;
}

function formatNumber(value: number): string {
  if (value === Infinity) return "+Inf";
  return value === -Infinity ? "-Inf" : String(value);
}
