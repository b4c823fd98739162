// Four files with fixed names go into the crate that serves them; see README.md.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const server = process.env.WOOTZ_URL ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [svelte()],
  base: './',
  build: {
    outDir: process.env.STUDIO_OUT ?? '../crates/wootz-serve/assets/studio',
    emptyOutDir: true,
    target: 'es2022',
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    cssCodeSplit: false,
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        entryFileNames: 'studio.js',
        assetFileNames: 'studio[extname]',
        codeSplitting: false,
      },
    },
  },
  server: {
    // `npm run dev` beside a running `wootz serve`.
    proxy: Object.fromEntries(
      ['/v1', '/api', '/metrics', '/apply-template', '/health'].map((path) => [path, { target: server }]),
    ),
  },
});
