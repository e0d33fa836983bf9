/** Dashboards, scrape config, alerts and manifest name only what exists. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import {
  createLogger,
  createRegistry,
  createRequestMetrics,
  createWorkerMetrics,
} from "../../lib/telemetry/mod.ts";
import { createMeasuringObserver } from "../../lib/worker/metrics.ts";
import {
  Assembler,
  assemblerDefaults,
} from "../../services/dashboard/trace/assembler.ts";
import { Collector } from "../../services/dashboard/collector.ts";
import { createDashboardMetrics } from "../../services/dashboard/metrics.ts";
import { openSqliteStore } from "../../services/dashboard/store/mod.ts";
import { TailSampling } from "../../services/dashboard/trace/tail_sampling.ts";
import { systemClock } from "../../lib/bus/mod.ts";

const here = new URL(".", import.meta.url).pathname;
const read = (path: string) => readFileSync(join(here, path), "utf8");

interface Metric {
  readonly name: string;
  readonly type: string;
  readonly labels: ReadonlySet<string>;
}

/** Everything that routers, workers and the dashboard register, by job. */
async function registered(): Promise<Map<string, Map<string, Metric>>> {
  const router = createRegistry();
  createRequestMetrics(router);
  const worker = createRegistry();
  createWorkerMetrics(worker);
  const transfers = createRegistry();
  createMeasuringObserver({
    registry: transfers,
    log: createLogger({ service: "test", level: "silent" }),
  });
  using store = await openSqliteStore({
    path: ":memory:",
    spansPerTraceMax: 9,
  });
  await using collector = new Collector({
    store,
    assembler: new Assembler(assemblerDefaults),
    sampling: new TailSampling({
      ratio: 1,
      tracesPerS: 1,
      slowestPerMinute: 1,
    }),
    retention: { ageMs: 1, bytesMax: 1 },
    captureContent: false,
    spansPerTraceMax: 9,
    clock: systemClock,
    nowMs: Date.now,
    onError() {},
  });
  const dashboard = createDashboardMetrics({ collector, store });
  const namesOf = (...registries: (typeof router)[]) =>
    new Map(
      registries.flatMap((registry) => registry.getMetricsAsArray())
        .map((metric) => {
          const { name, type, labelNames } = metric as unknown as {
            name: string;
            type: string;
            labelNames: string[];
          };
          return [name, { name, type, labels: new Set(labelNames) }];
        }),
    );
  return new Map([
    ["quetzal-router", namesOf(router)],
    ["quetzal-worker", namesOf(worker, transfers)],
    ["quetzal-dashboard", namesOf(dashboard)],
  ]);
}

const known = await registered();

/** Every selector of an expression: its metric and the labels it looks at. */
function selectors(expression: string) {
  return [...expression.matchAll(/(quetzal:\w+)(?:\{([^}]*)\})?/g)].map(
    ([, name, labels = ""]) => ({
      name,
      labels: [...labels.matchAll(/(\w+)\s*(=~|!~|!=|=)/g)].map(([, l]) => l),
      job: /job="([^"]+)"/.exec(labels)?.[1],
    }),
  );
}

/** Prometheus adds these to every series. */
const everywhere = new Set(["job", "instance", "role"]);

function checkExpression(expression: string, where: string): void {
  const found = selectors(expression);
  ok(
    found.length > 0 || /\bup\b/.test(expression),
    `${where} looks at nothing of ours: ${expression}`,
  );
  equal(
    expression.split("(").length,
    expression.split(")").length,
    `${where} has unbalanced brackets: ${expression}`,
  );
  for (const { name, labels, job } of found) {
    ok(job !== undefined, `${where}: ${name} names no job`);
    const metrics = known.get(job);
    ok(metrics !== undefined, `${where}: no job is called ${job}`);
    const plain = name.replace(/_(bucket|sum|count)$/, "");
    const metric = metrics.get(name) ?? metrics.get(plain);
    ok(metric !== undefined, `${where}: ${job} registers no ${name}`);
    equal(
      name !== metric.name,
      metric.type === "histogram",
      `${where}: ${name} is a ${metric.type}`,
    );
    for (const label of labels) {
      ok(
        everywhere.has(label) || metric.labels.has(label),
        `${where}: ${name} has no label ${label}`,
      );
    }
  }
}

for (const file of readdirSync(join(here, "grafana"))) {
  test(`grafana/${file} shows metrics that exist`, () => {
    const dashboard = JSON.parse(read(`grafana/${file}`));
    match(dashboard.uid, /^quetzal-/);
    ok(dashboard.title && dashboard.description);
    const panels = dashboard.panels.filter((p: { type: string }) =>
      p.type !== "row"
    );
    ok(panels.length >= 8);
    const ids = dashboard.panels.map((p: { id: number }) => p.id);
    equal(new Set(ids).size, ids.length, "ids of panels are unique");
    for (const panel of panels) {
      ok(panel.targets.length > 0, `${panel.title} asks nothing`);
      for (const { expr, legendFormat } of panel.targets) {
        checkExpression(expr, `${file}, "${panel.title}"`);
        ok(legendFormat, `${panel.title} has a curve without a name`);
      }
      equal(panel.datasource.uid, "${datasource}");
    }
  });

  test(`grafana/${file} lays its panels out without overlaps`, () => {
    const { panels } = JSON.parse(read(`grafana/${file}`)) as {
      panels: {
        title: string;
        gridPos: Record<"x" | "y" | "w" | "h", number>;
      }[];
    };
    const taken = new Map<string, string>();
    for (const { title, gridPos: { x, y, w, h } } of panels) {
      ok(x + w <= 24, `${title} ends right of the page`);
      for (let row = y; row < y + h; row++) {
        for (let column = x; column < x + w; column++) {
          const place = `${row},${column}`;
          equal(taken.get(place), undefined, `${title} lies on another`);
          taken.set(place, title);
        }
      }
    }
  });
}

test("a dashboard with a misspelt metric or label is noticed", () => {
  const fails = (expression: string) => {
    try {
      checkExpression(expression, "test");
      return false;
    } catch {
      return true;
    }
  };
  const job = 'job="quetzal-router"';
  ok(!fails(`sum(quetzal:num_requests_running{${job}})`));
  ok(fails(`sum(quetzal:num_request_running{${job}})`));
  ok(fails(`sum(quetzal:num_requests_running{${job},model="x"})`));
  ok(fails(`sum(quetzal:time_to_first_token_seconds{${job}})`));
  ok(fails("sum(quetzal:num_requests_running)"));
});

test("alerts have an expression of known metrics, a severity and words", () => {
  const { groups } = parse(read("prometheus/alerts.yml"));
  const rules = groups.flatMap((group: { rules: unknown[] }) => group.rules);
  ok(rules.length >= 8);
  const names = rules.map((rule: { alert: string }) => rule.alert);
  equal(new Set(names).size, names.length);
  for (const rule of rules) {
    match(rule.alert, /^Quetzal[A-Z]\w+$/);
    checkExpression(rule.expr, rule.alert);
    match(rule.for, /^\d+[ms]$/);
    ok(["page", "ticket"].includes(rule.labels.severity), rule.alert);
    ok(rule.annotations.summary && rule.annotations.description, rule.alert);
    for (
      const [, label] of `${rule.annotations.summary}`.matchAll(
        /\$labels\.(\w+)/g,
      )
    ) {
      ok(
        new RegExp(`by \\([^)]*\\b${label}\\b`).test(rule.expr) ||
          !/\bby \(/.test(rule.expr),
        `${rule.alert} speaks of ${label}, which its sum takes away`,
      );
    }
  }
});

test("prometheus.yml scrapes the jobs that the expressions name", () => {
  const config = parse(read("prometheus/prometheus.yml"));
  const jobs = config.scrape_configs.map((c: { job_name: string }) =>
    c.job_name
  );
  deepEqual(jobs.sort(), [...known.keys()].sort());
  for (const file of config.rule_files) ok(read(`prometheus/${file}`));
  for (const { relabel_configs } of config.scrape_configs) {
    for (const rule of relabel_configs) {
      ok(rule.source_labels.every((l: string) => l.startsWith("__meta_")));
      ok(rule.action === "keep" ? rule.regex : rule.target_label);
    }
  }
});

test("the Jaeger manifest is a deployment and a service that fit together", () => {
  const [deployment, service] = parseAllDocuments(read("jaeger/jaeger.yaml"))
    .map((document) => {
      deepEqual(document.errors, []);
      return document.toJS();
    });
  equal(deployment.kind, "Deployment");
  equal(service.kind, "Service");
  const { template } = deployment.spec;
  const { labels } = template.metadata;
  for (
    const selector of [
      deployment.spec.selector.matchLabels,
      service.spec.selector,
    ]
  ) {
    ok(Object.keys(selector).length > 0);
    deepEqual({ ...labels, ...selector }, labels);
  }
  const [container] = template.spec.containers;
  const ports = new Map(
    container.ports.map((p: { name: string; containerPort: number }) => [
      p.name,
      p.containerPort,
    ]),
  );
  deepEqual([ports.get("otlp-grpc"), ports.get("otlp-http")], [4317, 4318]);
  for (const { targetPort } of service.spec.ports) {
    ok(ports.has(targetPort), `the pod has no port ${targetPort}`);
  }
  match(container.image, /:\d+\.\d+\.\d+$/);
  equal(container.securityContext.allowPrivilegeEscalation, false);
});
