// The same as attempts.py, for clients in JavaScript.

import { readFileSync } from "node:fs";

export const BASE = process.env.OPENAI_BASE_URL;
export const KEY = process.env.OPENAI_API_KEY;
export const MODEL = process.env.MODEL;

export const QUESTION = "What is the weather in Paris?";
export const SHORT = "Say hello.";

export function require(holds, why) {
  if (!holds) throw new Error(why);
}

export async function attempt(client, attempts) {
  const path = new URL(`./node_modules/${client}/package.json`, import.meta.url);
  const { version } = JSON.parse(readFileSync(path, "utf8"));
  for (const [tried, ask] of Object.entries(attempts)) {
    let error = "";
    try {
      await ask();
    } catch (raised) {
      error = `${raised.name}: ${raised.message}`;
    }
    console.log(JSON.stringify({ client: `${client} (npm)`, version, tried, error }));
  }
}
