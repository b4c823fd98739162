// The sliders: plain words in front, exact numbers behind them.

import type { Params } from './api';

/** Exact settings by their names on the wire; `null` is "not sent". */
export interface Settings {
  max_tokens: number | null;
  temperature: number;
  min_p: number;
  top_p: number | null;
  top_k: number | null;
  repetition_penalty: number | null;
  presence_penalty: number | null;
  frequency_penalty: number | null;
  seed: number | null;
}

export const DEFAULTS: Settings = {
  max_tokens: 256,
  temperature: 0.8,
  min_p: 0.05,
  top_p: null,
  top_k: null,
  repetition_penalty: null,
  presence_penalty: null,
  frequency_penalty: null,
  seed: null,
};

/** Numbers that have no slider: name, range and what they do. */
export const EXACT: { name: keyof Settings; min: number; max: number; step: number; says: string }[] = [
  { name: 'max_tokens', min: 1, max: 1_000_000, step: 1, says: 'most tokens of the answer' },
  { name: 'temperature', min: 0, max: 100, step: 0.05, says: 'flattens or sharpens chances' },
  { name: 'min_p', min: 0, max: 1, step: 0.01, says: 'least chance, relative to the likeliest' },
  { name: 'top_p', min: 0.01, max: 1, step: 0.01, says: 'likeliest tokens up to this sum' },
  { name: 'top_k', min: 1, max: 1000, step: 1, says: 'this many likeliest tokens' },
  { name: 'repetition_penalty', min: 0.1, max: 2, step: 0.05, says: 'above 1 avoids what was said' },
  { name: 'presence_penalty', min: -2, max: 2, step: 0.1, says: 'avoids what the answer said' },
  { name: 'frequency_penalty', min: -2, max: 2, step: 0.1, says: 'the more, the more often' },
  { name: 'seed', min: 0, max: 2_147_483_647, step: 1, says: 'the same seed, the same answer' },
];

/** Steps of the length slider. */
export const LENGTHS: (number | null)[] = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, null];
const LENGTH_WORDS = [
  'a few words',
  'a sentence',
  'a few sentences',
  'a paragraph',
  'a few paragraphs',
  'a page',
  'two pages',
  'a long text',
  'a very long text',
  'until it ends',
];

/** Where the slider stands for any number of tokens: the first step that is not shorter. */
export function lengthStep(max_tokens: number | null): number {
  const step = LENGTHS.findIndex((length) => length === null || (max_tokens !== null && length >= max_tokens));
  return max_tokens === null ? LENGTHS.length - 1 : step;
}

export function lengthWord(max_tokens: number | null): string {
  return LENGTH_WORDS[lengthStep(max_tokens)] ?? '';
}

export function creativityWord(temperature: number): string {
  if (temperature === 0) return 'always the likeliest';
  if (temperature <= 0.35) return 'focused';
  if (temperature <= 0.75) return 'balanced';
  if (temperature <= 1.05) return 'lively';
  if (temperature <= 1.4) return 'daring';
  return 'wild';
}

export function strictnessWord(min_p: number): string {
  if (min_p === 0) return 'anything goes';
  if (min_p <= 0.03) return 'loose';
  if (min_p <= 0.1) return 'sensible';
  if (min_p <= 0.25) return 'strict';
  return 'very strict';
}

/** What is sent. */
export function params(settings: Settings): Params {
  const sent: Params = {};
  for (const { name } of EXACT) {
    const value = settings[name];
    if (value !== null && Number.isFinite(value)) sent[name] = value;
  }
  return sent;
}

/** A character that the model is asked to play: a system message. */
export interface Persona {
  id: string;
  name: string;
  text: string;
}

export const PERSONAS: Persona[] = [
  { id: 'plain', name: 'Plain speaker', text: 'Answer in short, plain sentences. Say so when you do not know.' },
  {
    id: 'teller',
    name: 'Storyteller',
    text: 'You tell short stories for children. Every story has a beginning, a middle and an end.',
  },
  {
    id: 'editor',
    name: 'Editor',
    text: 'Correct the spelling and grammar of what you are given. Return the corrected text, then a list of what you changed.',
  },
];
