// From two readings of `/metrics` to what happened between them.
//
// Source: Prometheus' text format 0.0.4.

/** Sums over a model's lines by name; buckets are left out. */
export type Numbers = Record<string, number>;

/** The lines that belong to `model`, and those that belong to the whole server. */
export function read(text: string, model: string): Numbers {
  const numbers: Numbers = {};
  for (const line of text.split('\n')) {
    const found = /^wootz_(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found || found[1]!.endsWith('_bucket')) continue;
    const [, name, labels = '', value] = found as unknown as [string, string, string | undefined, string];
    const of = /(?:^|,)model="((?:[^"\\]|\\.)*)"/.exec(labels)?.[1]?.replace(/\\(["\\])/g, '$1');
    if (of !== undefined && of !== model) continue;
    const status = /(?:^|,)status="(\d)/.exec(labels)?.[1];
    const key = status ? `${name}_${status}xx` : name;
    numbers[key] = (numbers[key] ?? 0) + Number(value);
  }
  return numbers;
}

/** What was going on at a moment. `null`: nothing happened that could be measured. */
export interface Sample {
  /** Seconds, by this page's clock. */
  time: number;
  tokensPerSecond: number;
  running: number;
  waiting: number;
  /** Sequences of a step, on average. */
  batch: number | null;
  blocksUsed: number;
  blocksCached: number;
  blocks: number;
  /** Of the prompts that ended: the share that was cached. */
  cacheHits: number | null;
  firstTokenMs: number | null;
  betweenTokensMs: number | null;
}

export interface Reading {
  time: number;
  numbers: Numbers;
}

export function sample(before: Reading, now: Reading): Sample {
  const of = (name: string) => now.numbers[name] ?? 0;
  const more = (name: string) => Math.max(0, of(name) - (before.numbers[name] ?? 0));
  const seconds = Math.max(1e-3, now.time - before.time);
  const mean = (name: string) => (more(`${name}_count`) ? more(`${name}_sum`) / more(`${name}_count`) : null);
  const ms = (value: number | null) => (value === null ? null : value * 1000);
  const blocks = of('kv_blocks');
  const cached = of('kv_blocks_cached');
  return {
    time: now.time,
    // A first token and every one after it are counted when they come.
    tokensPerSecond: (more('time_to_first_token_seconds_count') + more('inter_token_seconds_count')) / seconds,
    running: of('running_requests'),
    waiting: of('queued_requests'),
    batch: mean('step_sequences'),
    blocks,
    blocksCached: cached,
    blocksUsed: Math.max(0, blocks - of('kv_blocks_free') - cached),
    cacheHits: more('prompt_tokens_total') ? more('cached_tokens_total') / more('prompt_tokens_total') : null,
    firstTokenMs: ms(mean('time_to_first_token_seconds')),
    betweenTokensMs: ms(mean('inter_token_seconds')),
  };
}
