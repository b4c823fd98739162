// Parts that need no browser: Markdown, metrics, words.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { createServer } from 'vite';

let vite;
let load;

before(async () => {
  vite = await createServer({ root: new URL('..', import.meta.url).pathname, server: { middlewareMode: true, watch: null, ws: false }, appType: 'custom', logLevel: 'silent' });
  load = (name) => vite.ssrLoadModule(`/src/lib/${name}.ts`);
});
after(() => vite.close());

/** A tree of Markdown in few letters. */
function short(node) {
  if (Array.isArray(node)) return node.map(short).join('');
  switch (node.kind) {
    case 'text': return node.text;
    case 'break': return '<br>';
    case 'code': return `<code${node.language ? ` ${node.language}` : ''}>${node.text}</code>`;
    case 'link': return `<a ${node.href}>${short(node.of)}</a>`;
    case 'paragraph': return `<p>${short(node.of)}</p>`;
    case 'heading': return `<h${node.level}>${short(node.of)}</h>`;
    case 'rule': return '<hr>';
    case 'list': return `<${node.start === null ? 'ul' : `ol ${node.start}`}${node.tight ? '' : ' loose'}>${node.items.map(({ task, of }) => `<li${task === null ? '' : ` ${task}`}>${short(of)}</li>`).join('')}</list>`;
    case 'table': return `<table ${node.align.join()}>${node.head.map(short).join('|')}${node.rows.map((row) => `/${row.map(short).join('|')}`).join('')}</table>`;
    default: return `<${node.kind}>${short(node.of)}</${node.kind}>`;
  }
}

test('Markdown is read as people write it', async () => {
  const { markdown } = await load('markdown');
  const check = (text, expected) => assert.equal(short(markdown(text)), expected, JSON.stringify(text));
  check('one\ntwo\n\nthree', '<p>one\ntwo</p><p>three</p>');
  check('one  \ntwo', '<p>one<br>two</p>');
  check('# A #\n## *B*', '<h1>A</h><h2><em>B</em></h>');
  check('#no heading', '<p>#no heading</p>');
  check('**a** __b__ *c* _d_ ***e*** ~~f~~ `g`', '<p><strong>a</strong> <strong>b</strong> <em>c</em> <em>d</em> <em><strong>e</strong></em> <del>f</del> <code>g</code></p>');
  check('snake_case_word 2*3*4 ** x **', '<p>snake_case_word 2<em>3</em>4 ** x **</p>');
  check('**a *b* c** *a **b** c* *a **b***', '<p><strong>a <em>b</em> c</strong> <em>a <strong>b</strong> c</em> <em>a <strong>b</strong></em></p>');
  check('**open', '<p>**open</p>');
  check('`` a`b `` `*x*`', '<p><code>a`b</code> <code>*x*</code></p>');
  check('\\*a\\* 1 < 2 & 3', '<p>*a* 1 < 2 & 3</p>');
  check('- a\n- b\n  - c\n- d', '<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p></li></list></li><li><p>d</p></li></list>');
  check('3. a\n4. b', '<ol 3><li><p>a</p></li><li><p>b</p></li></list>');
  check('- a\n\n- b', '<ul loose><li><p>a</p></li><li><p>b</p></li></list>');
  check('- [ ] a\n- [x] b', '<ul><li false><p>a</p></li><li true><p>b</p></li></list>');
  check('1. a\n   ```js\n   x\n   ```\n2. b', '<ol 1><li><p>a</p><code js>x</code></li><li><p>b</p></li></list>');
  check('text\n- a\n\nmore', '<p>text</p><ul><li><p>a</p></li></list><p>more</p>');
  check('> a\n> > b\n\nc', '<quote><p>a</p><quote><p>b</p></quote></quote><p>c</p>');
  check('```py\nx < 1\n\n# no heading\n```\nafter', '<code py>x < 1\n\n# no heading</code><p>after</p>');
  check('```\nstill open', '<code>still open</code>');
  check('~~~\n```\n~~~', '<code>```</code>');
  check('| a | b |\n|---|--:|\n| 1 | `\\|` |\n| 2 |', '<table ,right>a|b/1|<code>|</code>/2|</table>');
  check('a\n\n---\n\n***', '<p>a</p><hr><hr>');
  check('[a](https://x.y/z "t") <https://x.y> https://x.y/a_b.', '<p><a https://x.y/z>a</a> <a https://x.y/>https://x.y</a> <a https://x.y/a_b>https://x.y/a_b</a>.</p>');
  check('![alt](https://x.y/z.png)', '<p><a https://x.y/z.png>alt</a></p>');
  check('[a](javascript:x) [b](data:x) [c](/local) <javascript:x>', '<p>[a](javascript:x) [b](data:x) [c](/local) <javascript:x></p>');
});

test('no text takes long, whatever it opens and never closes', async () => {
  const { markdown } = await load('markdown');
  const n = 20_000;
  const pieces = ['*', '**a', '_a', '~~a', '`', '`a ', '[', '[a](', '![', '<', '<h:', 'http://', '# ', '> ', '- ', '1. ', '|a', '|-', '***', '* ', '\\', ' ', '\n', '```', '**x**', '*a **b', 'h', '[a](b', '((('];
  for (const piece of pieces) {
    for (const text of [piece.repeat(n), `*${piece.repeat(n)}`, `${piece}\n`.repeat(n / 10), `|a|\n|-|\n${piece.repeat(n)}`]) {
      const start = performance.now();
      markdown(text);
      const ms = performance.now() - start;
      assert.ok(ms < 1500, `${JSON.stringify(piece)}: ${Math.round(ms)} ms`);
    }
  }
});

test('every beginning of a text is a text, as it is while it comes', async () => {
  const { markdown } = await load('markdown');
  const text = '# T\n\n- a **b** `c`\n  1. x\n\n> q\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```js\nx\n```\n[l](https://x.y)';
  for (let end = 0; end <= text.length; end += 1) markdown(text.slice(0, end));
});

test('two readings of the metrics make a sample', async () => {
  const { read, sample } = await load('metrics');
  const page = (first, between, sum) => `# HELP x
wootz_generations_in_progress 2
wootz_time_to_first_token_seconds_bucket{model="a",le="0.1"} 9
wootz_time_to_first_token_seconds_count{model="a"} ${first}
wootz_time_to_first_token_seconds_sum{model="a"} ${sum}
wootz_inter_token_seconds_count{model="a"} ${between}
wootz_inter_token_seconds_count{model="b\\"c"} 1000
wootz_kv_blocks{model="a"} 128
wootz_kv_blocks_free{model="a"} 100
wootz_kv_blocks_cached{model="a"} 20
wootz_http_requests_total{route="/x",status="404"} 3
wootz_http_requests_total{route="/y",status="429"} 2
`;
  const before = read(page(1, 10, 0.5), 'a');
  assert.equal(before.http_requests_total_4xx, 5);
  assert.equal(read(page(1, 10, 0.5), 'b"c').inter_token_seconds_count, 1000);
  const found = sample({ time: 10, numbers: before }, { time: 12, numbers: read(page(3, 48, 0.7), 'a') });
  assert.equal(found.tokensPerSecond, 20);
  assert.equal(Math.round(found.firstTokenMs), 100);
  assert.deepEqual([found.blocks, found.blocksUsed, found.blocksCached, found.batch, found.cacheHits], [128, 8, 20, null, null]);
});

test('sliders know every number', async () => {
  const { LENGTHS, lengthStep, lengthWord, params, DEFAULTS } = await load('settings');
  LENGTHS.forEach((length, step) => assert.equal(lengthStep(length), step));
  assert.equal(lengthWord(100), lengthWord(128));
  assert.equal(lengthStep(1_000_000), LENGTHS.length - 1);
  assert.deepEqual(params(DEFAULTS), { max_tokens: 256, temperature: 0.8, min_p: 0.05 });
});
