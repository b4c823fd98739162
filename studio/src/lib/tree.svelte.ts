// A conversation is a tree: editing, trying again and branching add siblings, and nothing is lost.
//
// Idea: of every node's children one is shown; the shown ones from the root down are the conversation.

import { textOf, type Message, type Params, type Token, type Usage } from './api';

/** What a request was made of, beside the messages before it. */
export interface Sent {
  model: string;
  system: string;
  params: Params;
}

/** How an answer came to be. */
export interface Timing {
  firstTokenMs: number | null;
  totalMs: number;
}

export interface Problem {
  message: string;
  hint: string;
  status: number;
}

/** A node as it is kept. */
export interface SavedTurn {
  id: string;
  parent: string | null;
  role: 'user' | 'assistant';
  content: string;
  reasoning?: string;
  /** Of an answer, where they are known. */
  tokens?: Token[];
  /** Of an answer: its first tokens that were given, not generated. */
  given?: number;
  /** Whether the last of those was chosen by the person. */
  branches?: boolean;
  /** `stop`, `length`, …; `stopped`: by the person; `null`: it is being made. */
  finish?: string | null;
  problem?: Problem | null;
  sent?: Sent;
  usage?: Usage | null;
  timing?: Timing | null;
}

export interface SavedConversation {
  id: string;
  title: string;
  changed: number;
  turns: SavedTurn[];
  /** Parent (or `root`) to the child that is shown. */
  shown: Record<string, string>;
}

/** A message and what came of it. */
export class Turn {
  readonly id: string;
  readonly parent: string | null;
  readonly role: 'user' | 'assistant';
  readonly sent: Sent | undefined;
  readonly given: number;
  readonly branches: boolean;
  content = $state('');
  reasoning = $state('');
  tokens = $state.raw<Token[]>([]);
  finish = $state<string | null>(null);
  problem = $state.raw<Problem | null>(null);
  usage = $state.raw<Usage | null>(null);
  timing = $state.raw<Timing | null>(null);

  constructor(saved: SavedTurn) {
    this.id = saved.id;
    this.parent = saved.parent;
    this.role = saved.role;
    this.sent = saved.sent;
    this.given = saved.given ?? 0;
    this.branches = saved.branches ?? false;
    this.content = saved.content;
    this.reasoning = saved.reasoning ?? '';
    this.tokens = saved.tokens ?? [];
    this.finish = saved.finish ?? null;
    this.problem = saved.problem ?? null;
    this.usage = saved.usage ?? null;
    this.timing = saved.timing ?? null;
  }

  save(): SavedTurn {
    const { id, parent, role, content, reasoning, tokens, given, branches, finish, problem, sent, usage, timing } = this;
    // A page that is left while an answer comes finds it stopped.
    const ended = role === 'assistant' && finish === null && !problem ? 'stopped' : finish;
    return { id, parent, role, content, reasoning, tokens, given, branches, finish: ended, problem, sent, usage, timing };
  }
}

export class Conversation {
  readonly id: string;
  title = $state('');
  changed = $state(0);
  turns = $state<Turn[]>([]);
  shown = $state<Record<string, string>>({});

  constructor(saved: SavedConversation) {
    this.id = saved.id;
    this.title = saved.title;
    this.changed = saved.changed;
    this.turns = saved.turns.map((turn) => new Turn(turn));
    this.shown = saved.shown;
  }

  static empty(): Conversation {
    return new Conversation({ id: newId(), title: '', changed: Date.now(), turns: [], shown: {} });
  }

  save(): SavedConversation {
    const { id, title, changed } = this;
    return { id, title, changed, turns: this.turns.map((turn) => turn.save()), shown: { ...this.shown } };
  }

  /** What is shown, from the first message on. */
  get path(): Turn[] {
    const path: Turn[] = [];
    let parent: string | null = null;
    for (;;) {
      const children: Turn[] = this.children(parent);
      const shown = children.find((turn) => turn.id === this.shown[parent ?? 'root']) ?? children.at(-1);
      if (!shown) return path;
      path.push(shown);
      parent = shown.id;
    }
  }

  children(parent: string | null): Turn[] {
    return this.turns.filter((turn) => turn.parent === parent);
  }

  siblings(turn: Turn): Turn[] {
    return this.children(turn.parent);
  }

  show(turn: Turn): void {
    this.shown[turn.parent ?? 'root'] = turn.id;
  }

  add(turn: Omit<SavedTurn, 'id'>): Turn {
    const added = new Turn({ ...turn, id: newId() });
    this.turns.push(added);
    this.show(added);
    this.changed = Date.now();
    if (!this.title && added.role === 'user') this.title = titleOf(added.content);
    return added;
  }

  /** The messages that lead to the children of `parent`. */
  messages(parent: string | null, system: string): Message[] {
    const messages: Message[] = [];
    for (let at = this.find(parent); at; at = this.find(at.parent)) {
      messages.unshift({ role: at.role, content: at.content });
    }
    return system.trim() ? [{ role: 'system', content: system.trim() }, ...messages] : messages;
  }

  find(id: string | null): Turn | undefined {
    return id === null ? undefined : this.turns.find((turn) => turn.id === id);
  }
}

/** The body of the request that an answer was, or would be, asked for with. */
export function requestBody(messages: Message[], sent: Sent, begins: Token[]) {
  const ids = begins.map((token) => token.id).filter((id) => id !== null);
  return {
    model: sent.model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    logprobs: true,
    top_logprobs: 8,
    ...sent.params,
    ...(ids.length ? { answer_token_ids: ids } : {}),
  };
}

/** Whether tokens can be gone on from: each must be known by its number. */
export function canContinue(tokens: Token[]): boolean {
  return tokens.length > 0 && tokens.every((token) => token.id !== null);
}

/** The text of the first tokens of an answer, as the answer itself would show it. */
export function beginningOf(tokens: Token[], whole: string): string {
  const text = textOf(tokens);
  return whole.startsWith(' ') ? text : text.trimStart();
}

export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function titleOf(text: string): string {
  const line = text.trim().split('\n')[0] ?? '';
  return line.length > 60 ? `${line.slice(0, 57)}…` : line;
}
