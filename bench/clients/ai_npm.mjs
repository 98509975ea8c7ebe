// Vercel's AI SDK.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { attempt, BASE, KEY, MODEL, QUESTION, require, SHORT } from "./attempts.mjs";

const provider = createOpenAICompatible({
  name: "served",
  baseURL: BASE,
  apiKey: KEY,
  supportsStructuredOutputs: true,
});
const model = provider(MODEL);
const limits = { maxOutputTokens: 64, maxRetries: 0 };
const weather = tool({
  description: "Tell the weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `Sunny in ${city}.`,
});

await attempt("ai", {
  generateText: async () => {
    const { text } = await generateText({ model, prompt: SHORT, ...limits });
    require(text, "no text");
  },
  streamText: async () => {
    const { textStream } = streamText({ model, prompt: SHORT, ...limits });
    let text = "";
    for await (const piece of textStream) text += piece;
    require(text, "no text");
  },
  "generateText({tools})": async () => {
    const { steps } = await generateText({
      model,
      prompt: QUESTION,
      tools: { weather },
      toolChoice: "required",
      stopWhen: stepCountIs(2),
      ...limits,
    });
    require(steps[0].toolResults.length, "no call");
  },
  "streamText({tools})": async () => {
    const result = streamText({
      model,
      prompt: QUESTION,
      tools: { weather },
      toolChoice: "required",
      ...limits,
    });
    require((await result.toolCalls).length, "no call");
  },
  generateObject: async () => {
    const { object } = await generateObject({
      model,
      prompt: QUESTION,
      schema: z.object({ city: z.string() }),
      ...limits,
    });
    require("city" in object, "no city");
  },
  embed: async () => {
    const { embedding } = await embed({
      model: provider.embeddingModel(MODEL),
      value: SHORT,
      maxRetries: 0,
    });
    require(embedding.length, "no vector");
  },
});
