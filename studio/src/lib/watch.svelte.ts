// Reads the server's numbers while somebody looks at them.

import * as api from './api';
import { read, sample, type Numbers, type Reading, type Sample } from './metrics';
import { studio } from './studio.svelte';

/** Two minutes at one a second. */
export const KEPT = 120;

class Watch {
  samples = $state.raw<Sample[]>([]);
  totals = $state.raw<Numbers>({});
  problem = $state.raw<{ message: string; hint: string; status: number } | null>(null);
  #last: (Reading & { model: string }) | null = null;

  /** Reads every second until the returned function is called. */
  start(): () => void {
    const controller = new AbortController();
    void this.#run(controller.signal);
    return () => controller.abort();
  }

  async #run(signal: AbortSignal): Promise<void> {
    this.#last = null;
    while (!signal.aborted) {
      let wait = 1000;
      if (!document.hidden && studio.model) {
        try {
          this.#take(await api.metrics(signal));
        } catch (error) {
          if (signal.aborted) return;
          const { message, hint, status, retryAfter } = error as api.StudioError;
          this.problem = { message, hint, status };
          if (status === 401) studio.needsKey = true;
          wait = Math.max(3000, (retryAfter ?? 0) * 1000);
        }
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  #take(text: string): void {
    const now = { time: performance.now() / 1000, model: studio.model, numbers: read(text, studio.model) };
    const before = this.#last;
    this.#last = now;
    this.totals = now.numbers;
    this.problem = null;
    if (before?.model !== now.model) this.samples = [];
    // A server that was started anew counts from zero.
    else if ((now.numbers.step_tokens_count ?? 0) >= (before.numbers.step_tokens_count ?? 0)) {
      this.samples = [...this.samples, sample(before, now)].slice(-KEPT);
    }
  }
}

export const watch = new Watch();
