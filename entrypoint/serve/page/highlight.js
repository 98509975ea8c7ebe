// Code with its keywords, strings, comments and numbers told apart, as DOM nodes.

const KEYWORDS = {
  python:
    "and as assert async await break class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return try while with yield None True False self",
  c: "abstract as async await auto bool boolean break case catch char class const constexpr continue default defer delete do double else enum export extends extern final finally float fn for func function go if impl implements import in instanceof int interface let long loop match mod mut namespace new null nullptr operator package private protected pub public return self short signed sizeof static struct super switch template this throw trait true false try type typedef typename typeof undefined union unsigned use using var virtual void volatile where while yield",
  shell:
    "case do done elif else esac exit export fi for function if in local return set shift then until while echo cd sudo",
  sql: "add alter and as asc begin by case commit create cross delete desc distinct drop else end exists from full group having in index inner insert into is join key left like limit not null on or order outer primary right select set table then union unique update values view when where with",
  data: "true false null yes no",
};

const FAMILIES = {
  python: "python py python3",
  c: "c cpp c++ cs csharp java javascript js jsx ts tsx typescript go rust rs kotlin kt swift php scala dart css",
  shell: "sh bash shell zsh console dockerfile",
  sql: "sql",
  data: "json yaml yml toml ini",
};

const STRING = String.raw`"""[\s\S]*?(?:"""|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|` + "`(?:\\\\.|[^`\\\\])*`?";
const NUMBER = String.raw`\b(?:0x[\da-fA-F]+|\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?)\b`;
const COMMENT = {
  python: String.raw`#.*`,
  c: String.raw`\/\/.*|\/\*[\s\S]*?(?:\*\/|$)`,
  shell: String.raw`(?<=^|\s)#.*`,
  sql: String.raw`--.*|\/\*[\s\S]*?(?:\*\/|$)`,
  data: String.raw`(?<=^|\s)#.*`,
};

const known = new Map(
  Object.entries(FAMILIES).flatMap(([family, names]) => names.split(" ").map((name) => [name, family])),
);

const rules = new Map();

function rule(family) {
  if (!rules.has(family)) {
    const words = KEYWORDS[family].split(" ").join("|");
    const source = `(?<comment>${COMMENT[family]})|(?<string>${STRING})|(?<number>${NUMBER})|(?<keyword>\\b(?:${words})\\b)|(?<call>\\b[A-Za-z_]\\w*(?=\\())`;
    rules.set(family, new RegExp(source, family === "sql" ? "gim" : "gm"));
  }
  return rules.get(family);
}

/** Return the nodes that show `code`; a language that is not known is shown plainly. */
export function highlight(code, language) {
  const family = known.get(language.toLowerCase());
  const shown = document.createDocumentFragment();
  if (!family) {
    shown.append(code);
    return shown;
  }
  let end = 0;
  for (const match of code.matchAll(rule(family))) {
    const [kind, text] = Object.entries(match.groups).find(([, value]) => value !== undefined);
    shown.append(code.slice(end, match.index));
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = text;
    shown.append(span);
    end = match.index + text.length;
  }
  shown.append(code.slice(end));
  return shown;
}
