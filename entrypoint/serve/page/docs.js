// The description of the API, read from openapi.json and shown without anything from elsewhere.

import { description as described } from "./api.js";
import { render } from "./markdown.js";
import { settings } from "./store.js";
import { preferred, speak, words } from "./words.js";

const here = new URL(".", location.href).href.replace(/\/$/, "");

const intro = () => `${words.withPython}

\`\`\`python
from openai import OpenAI

client = OpenAI(base_url="${here}/v1", api_key="KEY")
answer = client.chat.completions.create(
    model="MODEL", messages=[{"role": "user", "content": "Hello"}]
)
print(answer.choices[0].message.content)
\`\`\`

${words.withCurl}

\`\`\`sh
curl ${here}/v1/chat/completions -H "Authorization: Bearer KEY" -H "Content-Type: application/json" \\
    -d '{"messages": [{"role": "user", "content": "Hello"}], "stream": true}'
\`\`\`

${words.whole} [openapi.json](${here}/openapi.json)`;

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

let description;

function resolve(schema) {
  const name = schema?.$ref?.split("/").at(-1);
  return name ? description.components.schemas[name] : schema;
}

/** Return a type in a few words. */
function type(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(type).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") return `[${type(schema.items ?? {})}]`;
  const bounds = [
    schema.minimum ?? schema.exclusiveMinimum,
    schema.maximum ?? schema.exclusiveMaximum,
  ];
  const range = bounds.some((bound) => bound !== undefined) ? ` ${bounds[0] ?? ""}…${bounds[1] ?? ""}` : "";
  return `${schema.type ?? "any"}${range}`;
}

function fields(title, schema) {
  const { properties = {}, required = [], anyOf } = resolve(schema);
  if (anyOf) return anyOf.map((each) => fields(title, each));
  const rows = Object.entries(properties).map(([name, each]) => {
    const label = required.includes(name) ? `${name} *` : name;
    return make("tr", "", make("td", "", label), make("td", "", make("code", "", type(each))));
  });
  if (!rows.length) return [];
  return [make("h2", "", title), make("div", "table", make("table", "", make("tbody", "", ...rows)))];
}

function operation(path, method, told) {
  const body = make("div", "body");
  const asked = told.requestBody?.content["application/json"].schema;
  if (asked) body.append(...fields(words.request, asked));
  const schema = told.responses["200"].content["application/json"]?.schema;
  if (schema) body.append(...fields("200", schema));
  const others = Object.keys(told.responses).filter((status) => status !== "200");
  if (others.length) body.append(make("h2", "", `${others.join(", ")}: ${words.error}`));
  return make(
    "details",
    "",
    make(
      "summary",
      "",
      make("span", "method", method.toUpperCase()),
      make("span", "path", path),
      make("span", "", told.summary),
    ),
    body,
  );
}

document.documentElement.dataset.theme = settings.theme;
speak(settings.language || preferred());
description = await described(settings.key).catch((error) => ({ error }));
const whyNot = description.error?.status === 401 ? words.keyNeeded : description.error?.message;
render(document.getElementById("intro"), whyNot ?? intro());
for (const [path, methods] of Object.entries(description.paths ?? {})) {
  for (const [method, told] of Object.entries(methods)) {
    document.getElementById("operations").append(operation(path, method, told));
  }
}
