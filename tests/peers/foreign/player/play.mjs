// SPDX-License-Identifier: Apache-2.0
// play.mjs FILE: plays an asciicast with asciinema's own player, without a screen, and prints what it showed: {duration, output}.
import { readFileSync } from 'node:fs';

const dist = new URL('./node_modules/asciinema-player/dist/', import.meta.url);
const core = /from '\.\/(core-[^']+)'/.exec(readFileSync(new URL('index.js', dist), 'utf8'))[1];
const { C: Core } = await import(new URL(core, dist));
const silent = { log() {}, debug() {}, info() {}, warn() {}, error() {} };
const player = new Core({ data: readFileSync(process.argv[2], 'utf8') }, { logger: silent, speed: 1e6, preload: true, cols: 80, rows: 24 });

let output = '';
const over = new Promise((ended, failed) => {
  player.addEventListener('output', (shown) => { output += shown.join(''); });
  player.addEventListener('ended', ended);
  player.addEventListener('error', (wrong) => failed(new Error(wrong.message)));
});
const ready = player.init();
player.terminalReady();
await Promise.race([ready, over]);
const duration = await player.getDuration();
player.play();
await over;
console.log(JSON.stringify({ duration, output }));
process.exit(0);
