// The server's public APIs, as far as the studio asks them, and what can go wrong on the way.
//
// Idea: the studio has no private door. Everything it shows, a program can ask for with the same requests.

export interface Message {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** Settings of a request by their names on the wire; what is absent is not sent. */
export type Params = Record<string, number>;

/** The body of `POST /v1/chat/completions`. */
export interface ChatBody extends Record<string, unknown> {
  model: string;
  messages: Message[];
}

/** A token that was possible, with its probability under the model's own distribution. */
export interface Alternative {
  id: number | null;
  text: string;
  /** Only where the bytes are no text by themselves. */
  bytes?: number[];
  logprob: number;
}

/** A token that was chosen. */
export interface Token extends Alternative {
  top: Alternative[];
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
}

/** What a stream tells. */
export type Said =
  | { kind: 'delta'; text: string; reasoning: string; tokens: Token[] }
  | { kind: 'finish'; reason: string }
  | { kind: 'usage'; usage: Usage };

export interface ModelInfo {
  name: string;
  context: number;
  parameters: string;
  weights: string;
  family: string;
  /** `null` where the server was not asked, because asking loads the model. */
  canTalk: boolean | null;
}

export interface Piece {
  id: number;
  text: string;
  special: boolean;
}

export interface Prompt {
  prompt: string;
  context: number;
  pieces: Piece[];
  endTokens: number[];
}

/** What went wrong, for a person. */
export class StudioError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint: string,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

const KEY = 'wootz.key';

/** The key lives as long as the tab. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? '',
  set: (value: string) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers: Record<string, string> = {};
  if (init.body) headers['content-type'] = 'application/json';
  if (key.get()) headers['authorization'] = `Bearer ${key.get()}`;
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new StudioError(0, 'The server does not answer.', 'Is “wootz serve” still running? Start it, then try again.');
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response: Response): Promise<StudioError> {
  const body = await response.text();
  const after = Number(response.headers.get('retry-after')) || null;
  return new StudioError(response.status, message(body) || `Status ${response.status}`, hint(response.status, body, after), after);
}

/** The message in an error's body, in OpenAI's or Ollama's shape. */
function message(body: string): string {
  try {
    const error = (JSON.parse(body) as { error?: string | { message?: string } }).error;
    return sentence(typeof error === 'string' ? error : (error?.message ?? ''));
  } catch {
    return body.slice(0, 300);
  }
}

function sentence(text: string): string {
  return text ? text.charAt(0).toUpperCase() + text.slice(1) : '';
}

/** What a person can do about it. */
function hint(status: number, body: string, after: number | null): string {
  if (status === 401) return 'Enter the key that the server was started with.';
  if (status === 403) return 'This key or this page may not do that. Use a key with that scope.';
  if (status === 404) return 'Choose another model above.';
  if (status === 429) return `Others are being served. Try again ${after ? `in ${after} s` : 'in a moment'}.`;
  if (status === 503) return 'The server is about to stop, or a model is still being loaded.';
  if (body.includes('context_length_exceeded')) {
    return 'Ask for a shorter answer, edit an earlier message, begin a new conversation, or start the server with a larger --ctx.';
  }
  if (status >= 500) return 'This is the server’s fault; its own output says more.';
  return 'Change the setting that is named, then try again.';
}

async function json<T>(path: string, body?: unknown): Promise<T> {
  const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
  return (await ask(path, init)).json() as Promise<T>;
}

/** Every model that can be named. Nothing is loaded by asking. */
export async function models(): Promise<ModelInfo[]> {
  interface List { data: { id: string; max_model_len: number }[] }
  interface Tags { models: { name: string; details: { parameter_size: string; quantization_level: string; family: string } }[] }
  const [list, tags, loaded] = await Promise.all([json<List>('/v1/models'), json<Tags>('/api/tags'), json<Tags>('/api/ps')]);
  const isLoaded = new Set(loaded.models.map((model) => model.name));
  return Promise.all(
    list.data.map(async ({ id, max_model_len }) => {
      const details = tags.models.find((model) => model.name === id)?.details;
      const canTalk = isLoaded.has(id)
        ? (await json<{ capabilities: string[] }>('/api/show', { model: id })).capabilities.includes('completion')
        : null;
      return {
        name: id,
        context: max_model_len,
        parameters: details?.parameter_size ?? '',
        weights: details?.quantization_level ?? '',
        family: details?.family ?? '',
        canTalk,
      };
    }),
  );
}

/** A conversation as the model reads it. */
export async function applyTemplate(model: string, messages: Message[]): Promise<Prompt> {
  interface Applied {
    prompt: string;
    max_model_len: number;
    tokens: { id: number; piece: string | number[]; special: boolean }[];
    end_token_ids: number[];
  }
  const applied = await json<Applied>('/apply-template', { model, messages, with_pieces: true });
  return {
    prompt: applied.prompt,
    context: applied.max_model_len,
    endTokens: applied.end_token_ids,
    pieces: applied.tokens.map(({ id, piece, special }) => ({
      id,
      special,
      text: typeof piece === 'string' ? piece : hex(piece),
    })),
  };
}

/** The server's numbers, as Prometheus reads them. */
export async function metrics(signal: AbortSignal): Promise<string> {
  return (await ask('/metrics', { signal })).text();
}

/** Asks for an answer and tells it as it comes. */
export async function* chat(body: ChatBody, signal: AbortSignal): AsyncGenerator<Said> {
  const response = await ask('/v1/chat/completions', { method: 'POST', body: JSON.stringify(body), signal });
  for await (const data of events(response)) {
    if (data === '[DONE]') return;
    yield* said(JSON.parse(data) as Chunk);
  }
  throw new StudioError(0, 'The answer broke off.', 'Is “wootz serve” still running? Start it, then try again.');
}

interface WireLogprob { id?: number; token: string; logprob: number; bytes: number[] | null }
interface Chunk {
  error?: { message: string; code?: string };
  usage?: { prompt_tokens: number; completion_tokens: number; prompt_tokens_details?: { cached_tokens?: number } } | null;
  choices: {
    delta: { content?: string | null; reasoning_content?: string | null };
    logprobs: { content: (WireLogprob & { top_logprobs: WireLogprob[] })[] } | null;
    finish_reason: string | null;
  }[];
}

function* said(chunk: Chunk): Generator<Said> {
  if (chunk.error) throw new StudioError(200, sentence(chunk.error.message), hint(200, chunk.error.code ?? '', null));
  const choice = chunk.choices[0];
  if (choice) {
    const tokens = (choice.logprobs?.content ?? []).map((token) => ({
      ...alternative(token),
      top: token.top_logprobs.map(alternative),
    }));
    const text = choice.delta.content ?? '';
    const reasoning = choice.delta.reasoning_content ?? '';
    if (text || reasoning || tokens.length) yield { kind: 'delta', text, reasoning, tokens };
    if (choice.finish_reason) yield { kind: 'finish', reason: choice.finish_reason };
  }
  if (chunk.usage) {
    const { prompt_tokens, completion_tokens, prompt_tokens_details } = chunk.usage;
    const cached_tokens = prompt_tokens_details?.cached_tokens ?? 0;
    yield { kind: 'usage', usage: { prompt_tokens, completion_tokens, cached_tokens } };
  }
}

const strict = new TextDecoder('utf-8', { fatal: true });

function alternative({ id, token, logprob, bytes }: WireLogprob): Alternative {
  const known = { id: id ?? null, logprob };
  if (!bytes) return { ...known, text: token };
  try {
    return { ...known, text: strict.decode(new Uint8Array(bytes)) };
  } catch {
    return { ...known, text: hex(bytes), bytes };
  }
}

function hex(bytes: number[]): string {
  return bytes.map((byte) => `⟨${byte.toString(16).padStart(2, '0').toUpperCase()}⟩`).join('');
}

/** The text of tokens side by side, characters that were split put together again. */
export function textOf(tokens: Alternative[]): string {
  const encoder = new TextEncoder();
  const parts = tokens.map((token) => (token.bytes ? new Uint8Array(token.bytes) : encoder.encode(token.text)));
  const all = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return new TextDecoder().decode(all);
}

/** The `data:` of a stream of server-sent events. */
async function* events(response: Response): AsyncGenerator<string> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line.startsWith('data: ')) yield line.slice(6);
    }
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new StudioError(0, 'The answer broke off.', 'Is “wootz serve” still running? Start it, then try again.');
  } finally {
    void reader.cancel().catch(() => {});
  }
}
