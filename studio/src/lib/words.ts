// Numbers as people read them.

/** `1,024` */
export function count(n: number): string {
  return Math.round(n).toLocaleString('en');
}

/** `97.9 %`, `0.34 %`, `< 0.01 %` */
export function percent(p: number): string {
  const value = p * 100;
  if (value === 0) return '0 %';
  if (value > 0 && value < 0.01) return '< 0.01 %';
  return `${value >= 99.95 ? '100' : value >= 1 ? value.toFixed(1) : value.toFixed(2)} %`;
}

/** `0.42 ms`, `12 ms`, `1.3 s` */
export function duration(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  return `${ms < 1 ? ms.toFixed(2) : ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

/** White space and nothing at all, made visible. */
export function visible(text: string): string {
  if (text === '') return '∅';
  return text.replaceAll('\n', '⏎').replaceAll('\t', '⇥').replaceAll(/^ +| +$/g, (spaces) => '·'.repeat(spaces.length));
}

/** The same for ears. */
export function spoken(text: string): string {
  if (text === '') return 'nothing';
  if (/^\n+$/.test(text)) return text.length > 1 ? `${text.length} line breaks` : 'line break';
  if (/^ +$/.test(text)) return text.length > 1 ? `${text.length} spaces` : 'space';
  return text.trim() || text;
}
