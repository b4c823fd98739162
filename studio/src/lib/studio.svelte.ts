// What the studio knows and does: conversations, settings, personas, answers that are being made.
//
// Idea: one object, `studio`; components read it and call its methods. Conversations and settings stay in this browser's
//       localStorage, the key in this tab's sessionStorage, and nothing goes anywhere but to the server of the page.

import { SvelteSet } from 'svelte/reactivity';

import * as api from './api';
import { DEFAULTS, PERSONAS, params, type Persona, type Settings } from './settings';
import {
  Conversation, beginningOf, newId, requestBody,
  type SavedConversation, type Sent, type Turn,
} from './tree.svelte';

const CHATS = 'wootz.conversations';
const SETTINGS = 'wootz.settings';

interface SavedSettings {
  settings: Settings;
  personas: Persona[];
  persona: string | null;
  model: string;
  theme: Theme;
}

export type Theme = 'system' | 'light' | 'dark';

class Studio {
  models = $state.raw<api.ModelInfo[]>([]);
  modelsProblem = $state.raw<api.StudioError | null>(null);
  model = $state('');
  settings = $state<Settings>({ ...DEFAULTS });
  personas = $state<Persona[]>(structuredClone(PERSONAS));
  persona = $state<string | null>(null);
  conversations = $state<Conversation[]>([]);
  current = $state<Conversation>(Conversation.empty());
  draft = $state('');
  theme = $state<Theme>('system');
  needsKey = $state(false);
  /** What screen readers are told. */
  notice = $state('');
  /** What could not be kept, if so. */
  storageProblem = $state('');
  /** The answer whose prompt is shown; `null`: the next one. */
  subject = $state<Turn | null>(null);
  /** Answers that are shown as tokens. */
  tokenViews = new SvelteSet<string>();
  /** The branch that was made last takes the focus. */
  branched: Turn | null = null;
  #running = $state.raw<Map<string, AbortController>>(new Map());
  #endTokens = new Map<string, Promise<number[]>>();

  constructor() {
    this.#load();
    window.addEventListener('pagehide', () => this.save());
    window.addEventListener('storage', (event) => {
      if (event.key === CHATS) this.#adopt(event.newValue);
    });
  }

  get info(): api.ModelInfo | undefined {
    return this.models.find((model) => model.name === this.model);
  }

  get system(): string {
    return this.personas.find((persona) => persona.id === this.persona)?.text ?? '';
  }

  /** Whether an answer of the shown conversation is being made. */
  get isRunning(): boolean {
    return this.current.path.some((turn) => this.#running.has(turn.id));
  }

  isMaking(turn: Turn): boolean {
    return this.#running.has(turn.id);
  }

  /** What the next request is made of. */
  get next(): Sent {
    return { model: this.model, system: this.system, params: params(this.settings) };
  }

  async loadModels(): Promise<void> {
    try {
      this.models = (await api.models()).filter((model) => model.canTalk !== false);
      this.modelsProblem = null;
      if (!this.info) this.model = this.models[0]?.name ?? '';
    } catch (error) {
      this.modelsProblem = this.#problem(error);
    }
  }

  async useKey(key: string): Promise<void> {
    api.key.set(key);
    this.needsKey = false;
    await this.loadModels();
  }

  /** Sends a message and has it answered. */
  async send(text: string): Promise<void> {
    const content = text.trim();
    if (!content || this.isRunning) return;
    const parent = this.current.path.at(-1)?.id ?? null;
    const asked = this.current.add({ parent, role: 'user', content });
    if (!this.conversations.includes(this.current)) this.conversations.unshift(this.current);
    await this.#answer(this.current, asked.id, this.next, []);
  }

  /** Asks an earlier question anew, in other words. */
  async edit(turn: Turn, text: string): Promise<void> {
    const content = text.trim();
    if (!content || content === turn.content || this.isRunning) return;
    const asked = this.current.add({ parent: turn.parent, role: 'user', content });
    await this.#answer(this.current, asked.id, this.next, []);
  }

  /** Another answer to the same question, with the settings of now. */
  async retry(turn: Turn): Promise<void> {
    if (this.isRunning) return;
    const parent = turn.role === 'user' ? turn.id : turn.parent;
    await this.#answer(this.current, parent, this.next, []);
  }

  /** Goes on where an answer ended because it was long enough. */
  async goOn(turn: Turn): Promise<void> {
    if (this.isRunning || !turn.sent) return;
    await this.#answer(this.current, turn.parent, { ...this.next, model: turn.sent.model, system: turn.sent.system }, turn.tokens);
  }

  /** Another answer, equal up to a token, with another token there; everything else as it was sent. */
  async branch(turn: Turn, at: number, choice: api.Alternative): Promise<void> {
    const [token, sent] = [turn.tokens[at], turn.sent];
    if (this.isRunning || !token || !sent) return;
    const kept = [...turn.tokens.slice(0, at), { ...choice, top: token.top }];
    const ends = await this.endTokens(sent.model);
    if (this.isRunning) return;
    if (choice.id !== null && ends.includes(choice.id)) {
      const before = kept.slice(0, -1);
      const content = beginningOf(before, turn.content);
      const made = this.current.add({ parent: turn.parent, role: 'assistant', content, tokens: before, given: before.length, finish: 'stop', sent });
      this.tokenViews.add(made.id);
      this.branched = made;
      this.notice = 'Branch made: the answer ends there.';
      this.save();
      return;
    }
    await this.#answer(this.current, turn.parent, sent, kept, true);
  }

  /** Tokens that end an answer of that model. Asked once. */
  endTokens(model: string): Promise<number[]> {
    let known = this.#endTokens.get(model);
    if (!known) {
      const asked = api.applyTemplate(model, [{ role: 'user', content: 'x' }]);
      known = asked.then((prompt) => prompt.endTokens).catch(() => []);
      this.#endTokens.set(model, known);
    }
    return known;
  }

  stop(): void {
    for (const turn of this.current.path) this.#running.get(turn.id)?.abort();
  }

  open(conversation: Conversation): void {
    this.current = conversation;
    this.subject = null;
  }

  begin(): void {
    if (this.current.turns.length) this.current = Conversation.empty();
    this.subject = null;
  }

  remove(conversation: Conversation): void {
    for (const turn of conversation.turns) this.#running.get(turn.id)?.abort();
    this.conversations = this.conversations.filter((other) => other !== conversation);
    if (this.current === conversation) this.current = Conversation.empty();
    this.notice = 'Conversation deleted.';
    this.save();
  }

  removeAll(): void {
    for (const running of this.#running.values()) running.abort();
    this.conversations = [];
    this.current = Conversation.empty();
    this.notice = 'All conversations deleted.';
    this.save();
  }

  addPersona(): Persona {
    const persona = { id: newId(), name: 'New persona', text: '' };
    this.personas.push(persona);
    this.persona = persona.id;
    return persona;
  }

  removePersona(id: string): void {
    this.personas = this.personas.filter((persona) => persona.id !== id);
    if (this.persona === id) this.persona = null;
  }

  async #answer(conversation: Conversation, parent: string | null, sent: Sent, begins: api.Token[], branches = false): Promise<void> {
    const whole = conversation.find(parent)?.content ?? '';
    const turn = conversation.add({
      parent, role: 'assistant', sent, tokens: begins, given: begins.length, branches,
      content: beginningOf(begins, whole),
    });
    if (branches) {
      this.tokenViews.add(turn.id);
      this.branched = turn;
    }
    const body = requestBody(conversation.messages(parent, sent.system), sent, begins);
    const controller = new AbortController();
    this.#running = new Map(this.#running).set(turn.id, controller);
    this.notice = 'Answering.';
    const start = performance.now();
    const fresh = new Fresh(turn, begins.length > 0);
    let firstTokenMs: number | null = null;
    try {
      for await (const said of api.chat(body, controller.signal)) {
        if (said.kind === 'delta') {
          if (said.tokens.length) firstTokenMs ??= performance.now() - start;
          fresh.add(said);
        } else if (said.kind === 'finish') turn.finish = said.reason;
        else turn.usage = said.usage;
      }
    } catch (error) {
      if (error instanceof DOMException && error.name === 'AbortError') turn.finish = 'stopped';
      else {
        const { message, hint, status } = this.#problem(error);
        turn.problem = { message, hint, status };
      }
    }
    fresh.show();
    turn.timing = { firstTokenMs, totalMs: performance.now() - start };
    const running = new Map(this.#running);
    running.delete(turn.id);
    this.#running = running;
    conversation.changed = Date.now();
    this.notice = turn.problem ? `The answer failed. ${turn.problem.message}` : turn.finish === 'stopped' ? 'Stopped.' : 'The answer is complete.';
    this.save();
    // A model that was not loaded is now, and more is known of it.
    if (this.info?.canTalk === null && !turn.problem) void this.loadModels();
  }

  #problem(error: unknown): api.StudioError {
    const problem = error instanceof api.StudioError
      ? error
      : new api.StudioError(0, 'The studio itself failed.', String(error));
    if (problem.status === 401) {
      api.key.set('');
      this.needsKey = true;
    }
    return problem;
  }

  #load(): void {
    try {
      const saved = JSON.parse(localStorage.getItem(SETTINGS) ?? '{}') as Partial<SavedSettings>;
      this.settings = { ...DEFAULTS, ...saved.settings };
      this.personas = saved.personas ?? this.personas;
      this.persona = saved.persona ?? null;
      this.model = saved.model ?? '';
      this.theme = saved.theme ?? 'system';
      const chats = JSON.parse(localStorage.getItem(CHATS) ?? '[]') as SavedConversation[];
      this.conversations = chats.map((chat) => new Conversation(chat));
    } catch {
      // Written by another version, or by hand.
      this.storageProblem = 'What was kept in this browser could not be read, so the studio begins anew.';
    }
  }

  /** Takes over what another tab kept, but for what is being made here. */
  #adopt(text: string | null): void {
    let kept: SavedConversation[];
    try {
      kept = JSON.parse(text ?? '[]') as SavedConversation[];
    } catch {
      return;
    }
    const isBusy = (conversation: Conversation) => conversation.turns.some((turn) => this.#running.has(turn.id));
    const adopted = kept.map((saved) => {
      const own = this.conversations.find(({ id }) => id === saved.id);
      return own && (isBusy(own) || own.changed >= saved.changed) ? own : new Conversation(saved);
    });
    const unknown = this.conversations.filter((own) => isBusy(own) && !adopted.some(({ id }) => id === own.id));
    this.conversations = [...unknown, ...adopted];
    this.current = this.conversations.find(({ id }) => id === this.current.id) ?? (this.current.turns.length ? Conversation.empty() : this.current);
  }

  saveSettings(): void {
    const { settings, personas, persona, model, theme } = this;
    keep(SETTINGS, { settings, personas, persona, model, theme } satisfies SavedSettings);
  }

  /** Keeps all conversations. Where there is too little room, the oldest lose their alternatives first, then all tokens. */
  save(): void {
    const chats = [...this.conversations].sort((a, b) => b.changed - a.changed).map((chat) => chat.save());
    let lost = 0;
    for (const thin of [withoutAlternatives, withoutTokens]) {
      for (let i = chats.length - 1; i >= 0; i -= 1) {
        if (keep(CHATS, chats)) {
          this.storageProblem = lost ? 'This browser has little room: older answers were kept without their token view.' : '';
          return;
        }
        chats[i]!.turns.forEach(thin);
        lost += 1;
      }
    }
    this.storageProblem = keep(CHATS, chats) ? 'This browser has little room: answers were kept without their token view.' : 'This browser has no room: conversations are lost with the page. Delete some.';
  }
}

/** What came and is not shown yet: once a frame is often enough. */
class Fresh {
  #tokens: api.Token[] = [];
  #text = '';
  #reasoning = '';
  #frame = 0;

  /** `replaces`: the first text says again what the answer begins with. */
  constructor(readonly turn: Turn, private replaces: boolean) {}

  add(said: { text: string; reasoning: string; tokens: api.Token[] }): void {
    if (this.replaces) this.turn.content = '';
    this.replaces = false;
    this.#text += said.text;
    this.#reasoning += said.reasoning;
    this.#tokens.push(...said.tokens);
    this.#frame ||= setTimeout(() => this.show(), 33);
  }

  show(): void {
    clearTimeout(this.#frame);
    this.#frame = 0;
    if (this.#text) this.turn.content += this.#text;
    if (this.#reasoning) this.turn.reasoning += this.#reasoning;
    if (this.#tokens.length) this.turn.tokens = [...this.turn.tokens, ...this.#tokens];
    [this.#text, this.#reasoning, this.#tokens] = ['', '', []];
  }
}

function keep(name: string, value: unknown): boolean {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

function withoutAlternatives(turn: { tokens?: api.Token[] }): void {
  turn.tokens = turn.tokens?.map((token) => ({ ...token, top: [] }));
}

function withoutTokens(turn: { tokens?: api.Token[] }): void {
  turn.tokens = [];
}

export const studio = new Studio();
