// OpenAI's own client for JavaScript.

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import { attempt, MODEL, QUESTION, require, SHORT } from "./attempts.mjs";

const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: SHORT }];

await attempt("openai", {
  "chat.completions.create": async () => {
    const answer = await client.chat.completions.create({ model: MODEL, messages, max_tokens: 16 });
    require(answer.choices[0].message.content, "no content");
  },
  "chat.completions.create({stream: true})": async () => {
    const request = { model: MODEL, messages, max_tokens: 16, stream: true };
    let text = "";
    for await (const chunk of await client.chat.completions.create(request)) {
      text += chunk.choices[0]?.delta?.content ?? "";
    }
    require(text, "no content");
  },
  "chat.completions.runTools": async () => {
    let city;
    const runner = client.chat.completions.runTools({
      model: MODEL,
      messages: [{ role: "user", content: QUESTION }],
      max_tokens: 64,
      tool_choice: { type: "function", function: { name: "get_weather" } },
      tools: [
        {
          type: "function",
          function: {
            name: "get_weather",
            description: "Tell the weather of a city.",
            parameters: {
              type: "object",
              properties: { city: { type: "string" } },
              required: ["city"],
            },
            parse: JSON.parse,
            function: (args) => {
              city = args.city;
              return `Sunny in ${city}.`;
            },
          },
        },
      ],
    });
    await runner.done();
    require(city, "no call");
  },
  "chat.completions.parse": async () => {
    const answer = await client.chat.completions.parse({
      model: MODEL,
      messages: [{ role: "user", content: QUESTION }],
      max_tokens: 64,
      response_format: zodResponseFormat(z.object({ city: z.string() }), "place"),
    });
    require(answer.choices[0].message.parsed, "nothing parsed");
  },
  "responses.create": async () => {
    const answer = await client.responses.create({
      model: MODEL,
      input: SHORT,
      max_output_tokens: 16,
    });
    require(answer.output_text, "no text");
  },
  "embeddings.create": async () => {
    const answer = await client.embeddings.create({ model: MODEL, input: SHORT });
    require(answer.data[0].embedding.length > 0, "no vector");
  },
});
