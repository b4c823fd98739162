// Markdown to a tree of plain objects, which components turn into elements one by one.
//
// Idea:   no string ever becomes HTML, so nothing that a model writes can become script. What is not understood stays
//         text. Pictures become links: showing one would ask another server.
// Source: CommonMark 0.31 and GitHub's tables, as far as models use them.

export type Inline =
  | { kind: 'text'; text: string }
  | { kind: 'code'; text: string }
  | { kind: 'break' }
  | { kind: 'strong' | 'em' | 'del'; of: Inline[] }
  | { kind: 'link'; href: string; of: Inline[] };

export type Align = 'left' | 'center' | 'right' | null;

export type Block =
  | { kind: 'paragraph'; of: Inline[] }
  | { kind: 'heading'; level: number; of: Inline[] }
  | { kind: 'code'; language: string; text: string }
  | { kind: 'quote'; of: Block[] }
  | { kind: 'list'; start: number | null; tight: boolean; items: { task: boolean | null; of: Block[] }[] }
  | { kind: 'table'; align: Align[]; head: Inline[][]; rows: Inline[][][] }
  | { kind: 'rule' };

/** Quotes and lists inside each other deeper than this stay text. */
const MAX_DEPTH = 12;

export function markdown(text: string): Block[] {
  return blocks(text.replace(/\r\n?/g, '\n').split('\n'), 0);
}

const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=\s|$)(.*)$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}>\s?(.*)$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:( +)(.*)|)$/;
const DELIMITERS = /^ {0,3}\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?\s*)?$|^ {0,3}\|\s*:?-+:?\s*\|?$/;

function blocks(lines: string[], depth: number): Block[] {
  const found: Block[] = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at]!;
    if (!line.trim()) {
      at += 1;
      continue;
    }
    const taken =
      fence(lines, at) ??
      heading(line) ??
      (RULE.test(line) ? { block: { kind: 'rule' as const }, n: 1 } : null) ??
      (depth < MAX_DEPTH ? (quote(lines, at, depth) ?? list(lines, at, depth)) : null) ??
      table(lines, at) ??
      paragraph(lines, at);
    found.push(taken.block);
    at += taken.n;
  }
  return found;
}

interface Taken {
  block: Block;
  n: number;
}

function fence(lines: string[], at: number): Taken | null {
  const open = FENCE.exec(lines[at]!);
  if (!open) return null;
  const [, indent, mark, info] = open as unknown as [string, string, string, string];
  const close = new RegExp(`^ {0,3}${mark[0] === '~' ? '~' : '`'}{${mark.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !close.test(lines[end]!)) end += 1;
  const strip = new RegExp(`^ {0,${indent.length}}`);
  const text = lines.slice(at + 1, end).map((line) => line.replace(strip, '')).join('\n');
  // A fence that is still open, because the rest has not come yet, is code already.
  return { block: { kind: 'code', language: info.trim().split(/\s/)[0] ?? '', text }, n: Math.min(end + 1, lines.length) - at };
}

function heading(line: string): Taken | null {
  const found = HEADING.exec(line);
  if (!found) return null;
  const text = found[2]!.trim().replace(/(^|\s)#+$/, '');
  return { block: { kind: 'heading', level: found[1]!.length, of: inline(text) }, n: 1 };
}

function quote(lines: string[], at: number, depth: number): Taken | null {
  const inner: string[] = [];
  let end = at;
  for (; end < lines.length; end += 1) {
    const found = QUOTE.exec(lines[end]!);
    if (!found) break;
    inner.push(found[1]!);
  }
  return inner.length ? { block: { kind: 'quote', of: blocks(inner, depth + 1) }, n: end - at } : null;
}

function list(lines: string[], at: number, depth: number): Taken | null {
  const first = ITEM.exec(lines[at]!);
  if (!first) return null;
  const mark = first[2]!;
  const kind = (mark: string) => (/\d/.test(mark) ? mark.slice(-1) : mark);
  const items: string[][] = [];
  let end = at;
  let width = 0;
  let loose = false;
  while (end < lines.length) {
    const line = lines[end]!;
    const item = ITEM.exec(line);
    if (items.length && line.trim() && indentOf(line) >= width) {
      items.at(-1)!.push(line.slice(width));
    } else if (item && kind(item[2]!) === kind(mark) && !RULE.test(line)) {
      const space = item[3]?.length ?? 1;
      width = item[1]!.length + item[2]!.length + (space > 4 ? 1 : space);
      items.push([(space > 4 ? ' '.repeat(space - 1) : '') + (item[4] ?? '')]);
    } else if (!line.trim()) {
      // An empty line belongs to the list if the list goes on behind it.
      let ahead = end;
      while (ahead < lines.length && !lines[ahead]!.trim()) ahead += 1;
      const next = lines[ahead];
      const goesOn = next !== undefined && (indentOf(next) >= width || kind(ITEM.exec(next)?.[2] ?? '') === kind(mark));
      if (!goesOn) break;
      loose = true;
      items.at(-1)!.push('');
    } else if (lines[end - 1]!.trim() && !startsBlock(line)) {
      items.at(-1)!.push(line.trimStart()); // a paragraph that goes on without its indent
    } else break;
    end += 1;
  }
  const block: Block = {
    kind: 'list',
    start: /\d/.test(mark) ? parseInt(mark, 10) : null,
    tight: !loose,
    items: items.map((lines) => {
      const task = /^\[([ xX])\]\s+(.*)$/.exec(lines[0]!);
      if (task) lines[0] = task[2]!;
      return { task: task && task[1] !== ' ', of: blocks(lines, depth + 1) };
    }),
  };
  return { block, n: end - at };
}

function indentOf(line: string): number {
  return line.length - line.trimStart().length;
}

function startsBlock(line: string): boolean {
  return [FENCE, HEADING, RULE, QUOTE, ITEM].some((start) => start.test(line));
}

function table(lines: string[], at: number): Taken | null {
  const under = lines[at + 1];
  if (!lines[at]!.includes('|') || under === undefined || !DELIMITERS.test(under)) return null;
  const head = cells(lines[at]!);
  const align = cells(under).map((cell): Align => {
    const [left, right] = [cell.startsWith(':'), cell.endsWith(':')];
    return left && right ? 'center' : right ? 'right' : left ? 'left' : null;
  });
  if (head.length !== align.length) return null;
  let end = at + 2;
  while (end < lines.length && lines[end]!.trim() && !startsBlock(lines[end]!)) end += 1;
  const rows = lines.slice(at + 2, end).map((line) => {
    const row = cells(line);
    return head.map((_, i) => inline(row[i] ?? ''));
  });
  return { block: { kind: 'table', align, head: head.map(inline), rows }, n: end - at };
}

function cells(line: string): string[] {
  const inner = line.trim().replace(/^\|/, '').replace(/(^|[^\\])\|$/, '$1');
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, '|'));
}

function paragraph(lines: string[], at: number): Taken {
  let end = at + 1;
  while (end < lines.length && lines[end]!.trim() && !startsBlock(lines[end]!) && !table(lines, end)) end += 1;
  const text = lines.slice(at, end).map((line) => line.trimStart()).join('\n').trimEnd();
  return { block: { kind: 'paragraph', of: inline(text) }, n: end - at };
}

/** Where a reader may be led; everything else stays text. */
export function safeHref(href: string): string | null {
  try {
    const url = new URL(href);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

const AUTOLINK = /^https?:\/\/[^\s<>()[\]{}"'`]*[^\s<>()[\]{}"'`.,;:!?*_~]/;

/** Marks farther apart than this do not belong together; it bounds the work on text that only opens. */
const MAX_SPAN = 4096;

export function inline(text: string, depth = 0): Inline[] {
  const found: Inline[] = [];
  // Up to where a search for the end of a mark was in vain: those that open before that need not search again.
  const vain: Record<string, number> = {};
  let plain = '';
  const add = (node: Inline) => {
    if (plain) found.push({ kind: 'text', text: plain });
    plain = '';
    found.push(node);
  };
  let at = 0;
  while (at < text.length) {
    const c = text[at]!;
    if (c === '\\' && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? '')) {
      plain += text[at + 1];
      at += 2;
      continue;
    }
    if (c === '\n') {
      const hard = plain.endsWith('  ') || plain.endsWith('\\');
      plain = plain.endsWith('\\') ? plain.slice(0, -1) : plain.trimEnd();
      if (hard) add({ kind: 'break' });
      else plain += '\n';
      at += 1;
      continue;
    }
    let taken: TakenInline | null = null;
    if (c === '`') taken = code(text, at, vain);
    else if (depth < MAX_DEPTH && '*_~'.includes(c)) taken = span(text, at, depth, vain);
    else if (depth < MAX_DEPTH && '[!<h'.includes(c)) taken = link(text.slice(at, at + MAX_SPAN), depth);
    if (taken) {
      add(taken.node);
      at += taken.n;
    } else {
      // A run of marks that opens nothing is text as a whole.
      const n = '`*_~'.includes(c) ? runOf(text, at) : 1;
      plain += text.slice(at, at + n);
      at += n;
    }
  }
  if (plain) found.push({ kind: 'text', text: plain });
  return found;
}

interface TakenInline {
  node: Inline;
  n: number;
}

/** How often the character at `at` stands there side by side. */
function runOf(text: string, at: number): number {
  let end = at + 1;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

function code(text: string, at: number, vain: Record<string, number>): TakenInline | null {
  const n = runOf(text, at);
  const close = closeOfCode(text, at, n, vain);
  if (close === null) return null;
  const inner = text.slice(at + n, close).replaceAll('\n', ' ');
  const padded = inner.startsWith(' ') && inner.endsWith(' ') && inner.trim() !== '';
  return { node: { kind: 'code', text: padded ? inner.slice(1, -1) : inner }, n: close + n - at };
}

/** Where the next run of exactly `n` backticks begins. */
function closeOfCode(text: string, at: number, n: number, vain: Record<string, number>): number | null {
  const mark = '`'.repeat(n);
  if (at < (vain[mark] ?? 0)) return null;
  const end = Math.min(text.length, at + MAX_SPAN);
  for (let i = at + n; i < end; i += 1) {
    if (text[i] !== '`') continue;
    const run = runOf(text, i);
    if (run === n) return i;
    i += run - 1;
  }
  vain[mark] = end;
  return null;
}

/** `**strong**`, `*emphasis*`, `***both***`, `~~deleted~~`, and the same with `_`. */
function span(text: string, at: number, depth: number, vain: Record<string, number>): TakenInline | null {
  const c = text[at]!;
  const run = runOf(text, at);
  if (run > 3 || (c === '~' && run !== 2) || /\s|^$/.test(text[at + run] ?? '')) return null;
  // `snake_case` is no emphasis.
  if (c === '_' && /\w/.test(text[at - 1] ?? '')) return null;
  const close = closeOfSpan(text, at, run, vain);
  if (close === null) return null;
  const of = inline(text.slice(at + run, close), depth + 1);
  const n = close + run - at;
  if (c === '~') return { node: { kind: 'del', of }, n };
  if (run === 1) return { node: { kind: 'em', of }, n };
  return { node: run === 2 ? { kind: 'strong', of } : { kind: 'em', of: [{ kind: 'strong', of }] }, n };
}

/** Where the marks begin that end a span of `n` of them, which began at `at`. */
function closeOfSpan(text: string, at: number, n: number, vain: Record<string, number>): number | null {
  const c = text[at]!;
  const mark = c.repeat(n);
  if (at < (vain[mark] ?? 0)) return null;
  const end = Math.min(text.length, at + MAX_SPAN);
  for (let i = at + n; i < end; i += 1) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === '`') {
      const run = runOf(text, i);
      const close = closeOfCode(text, i, run, vain);
      i = close === null ? i + run - 1 : close + run - 1;
    } else if (text[i] === c) {
      const run = runOf(text, i);
      const closes = !/\s/.test(text[i - 1]!) && (c !== '_' || !/\w/.test(text[i + run] ?? ''));
      // Of three marks, those that are not needed end what was opened inside: `*a **b***`.
      if (closes && (run === n || (run === 3 && n < 3))) return i + run - n;
      i += run - 1;
    }
  }
  vain[mark] = end;
  return null;
}

function link(rest: string, depth: number): TakenInline | null {
  const named = /^!?\[((?:\\.|[^[\]\\]|\[[^[\]]*\])*)\]\(\s*<?((?:[^()\s<>]|\([^()\s<>]*\))*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/.exec(rest);
  if (named) {
    const href = safeHref(named[2]!);
    const of = inline(named[1] || named[2]!, depth + 1);
    return href ? { node: { kind: 'link', href, of }, n: named[0].length } : null;
  }
  const bare = /^<([a-z]+:[^\s<>]+)>/i.exec(rest) ?? AUTOLINK.exec(rest);
  if (!bare) return null;
  const text = bare[1] ?? bare[0];
  const href = safeHref(text);
  return href ? { node: { kind: 'link', href, of: [{ kind: 'text', text }] }, n: bare[0].length } : null;
}
