// Markdown as DOM nodes. Text only ever becomes text: there is no way from an answer to HTML.

import { highlight } from "./highlight.js";

const FENCE = /^\s{0,3}(`{3,}|~{3,})\s*([^\s`]*)/;
const HEADING = /^(#{1,6})\s+(.*?)#*\s*$/;
const RULE = /^\s{0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^\s{0,3}>\s?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+/;
const TABLE = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const INLINE =
  /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]+?)\*\*|\*(?=\S)([^*]+?)\*|(?<![\w])_(?=\S)([^_]+?)_(?!\w)|~~([\s\S]+?)~~|\[([^\]]*)\]\(([^()\s]+)\)|(https?:\/\/[^\s<>"'`)\]}]+)|\\([\\`*_{}[\]()#+\-.!~|>])/g;

/** Cut a text into blocks: arrays of lines, each with a kind. */
export function blocks(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const found = [];
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    const begin = at;
    let kind = "paragraph";
    if (!line.trim()) {
      at += 1;
      continue;
    }
    const fence = FENCE.exec(line);
    if (fence) {
      kind = "code";
      do at += 1;
      while (at < lines.length && !lines[at].trim().startsWith(fence[1]));
      at += 1;
    } else if (HEADING.test(line)) {
      kind = "heading";
      at += 1;
    } else if (RULE.test(line)) {
      kind = "rule";
      at += 1;
    } else if (QUOTE.test(line)) {
      kind = "quote";
      while (at < lines.length && QUOTE.test(lines[at])) at += 1;
    } else if (ITEM.test(line)) {
      kind = "list";
      do at += 1;
      while (at < lines.length && (inList(lines[at]) || (!lines[at].trim() && inList(lines[at + 1] ?? ""))));
    } else if (line.includes("|") && TABLE.test(lines[at + 1] ?? "")) {
      kind = "table";
      do at += 1;
      while (at < lines.length && lines[at].includes("|"));
    } else {
      do at += 1;
      while (at < lines.length && lines[at].trim() && !starts(lines[at]));
    }
    found.push({ kind, lines: lines.slice(begin, at) });
  }
  return found;
}

const inList = (line) => ITEM.test(line) || /^\s{2,}\S/.test(line);
const starts = (line) => [FENCE, HEADING, RULE, QUOTE, ITEM].some((rule) => rule.test(line));

/** Show `text` in `node`. Blocks that are there already stay, so that an answer can grow. */
export function render(node, text) {
  const wanted = blocks(text);
  const shown = (node.shown ??= []);
  let same = 0;
  while (same < wanted.length && same < shown.length && shown[same] === wanted[same].lines.join("\n")) same += 1;
  while (node.childNodes.length > same) node.lastChild.remove();
  shown.length = same;
  for (const block of wanted.slice(same)) {
    node.append(MAKERS[block.kind](block.lines));
    shown.push(block.lines.join("\n"));
  }
}

function make(tag, ...children) {
  const node = document.createElement(tag);
  node.append(...children);
  return node;
}

const MAKERS = {
  paragraph: (lines) => make("p", inline(lines.join("\n"))),
  heading([line]) {
    const [, marks, title] = HEADING.exec(line);
    // The page's own heading is above those of an answer.
    return make(`h${Math.min(6, marks.length + 1)}`, inline(title));
  },
  rule: () => make("hr"),
  quote(lines) {
    const quote = make("blockquote");
    render(quote, lines.map((line) => line.replace(QUOTE, "")).join("\n"));
    return quote;
  },
  code(lines) {
    const [, fence, language] = FENCE.exec(lines[0]);
    const closed = lines.length > 1 && lines.at(-1).trim().startsWith(fence);
    const body = lines.slice(1, closed ? -1 : undefined).join("\n");
    const head = make("div", make("span", language || "text"));
    head.className = "code-head";
    const code = make("div", head, make("pre", make("code", highlight(body, language))));
    code.className = "code";
    return code;
  },
  list(lines) {
    const [, indent, mark] = ITEM.exec(lines[0]);
    const ordered = /\d/.test(mark);
    const list = make(ordered ? "ol" : "ul");
    if (ordered) list.start = Number.parseInt(mark, 10);
    let item = [];
    const end = () => {
      const node = make("li");
      const [first, ...more] = item;
      const step = Math.min(...more.filter((line) => line.trim()).map((line) => line.search(/\S/)), 99);
      const rest = more.map((line) => line.slice(step));
      const nested = rest.findIndex((line) => starts(line) || !line.trim());
      const own = nested < 0 ? rest : rest.slice(0, nested);
      node.append(inline([first, ...own].join("\n")));
      if (nested >= 0) {
        const inner = make("div");
        render(inner, rest.slice(nested).join("\n"));
        node.append(...inner.childNodes);
      }
      list.append(node);
    };
    for (const line of lines) {
      const match = ITEM.exec(line);
      if (match && match[1].length <= indent.length + 1) {
        if (item.length) end();
        item = [line.slice(match[0].length)];
      } else {
        item.push(line);
      }
    }
    end();
    return list;
  },
  table([head, rule, ...rows]) {
    const sides = cells(rule).map((cell) => (/:$/.test(cell) ? (/^:/.test(cell) ? "center" : "right") : "left"));
    const row = (tag, line) =>
      make(
        "tr",
        ...cells(line).map((cell, column) => {
          const node = make(tag, inline(cell));
          node.className = sides[column] ?? "left";
          return node;
        }),
      );
    const table = make("table", make("thead", row("th", head)), make("tbody", ...rows.map((line) => row("td", line))));
    const frame = make("div", table);
    frame.className = "table";
    return frame;
  },
};

const cells = (line) =>
  line
    .trim()
    .replace(/^\||\|$/g, "")
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim());

function inline(text) {
  const shown = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, , code, strong, star, under, struck, label, target, address, escaped] = match;
    plain(shown, text.slice(end, match.index));
    end = match.index + whole.length;
    if (code !== undefined) shown.append(make("code", code.trim()));
    else if (strong) shown.append(make("strong", inline(strong)));
    else if (star ?? under) shown.append(make("em", inline(star ?? under)));
    else if (struck) shown.append(make("del", inline(struck)));
    else if (target) shown.append(link(target, label || target));
    else if (address) shown.append(link(address, address));
    else shown.append(escaped);
  }
  plain(shown, text.slice(end));
  return shown;
}

/** Add text, with a line break wherever the writer made one. */
function plain(node, text) {
  text.split("\n").forEach((line, number) => {
    if (number) node.append(make("br"));
    node.append(line);
  });
}

/** Return a link if it leads to the web, else its words alone. */
function link(target, label) {
  if (!/^(https?:|mailto:)/i.test(target)) return document.createTextNode(label);
  const node = make("a", label);
  node.href = target;
  node.target = "_blank";
  node.rel = "noopener noreferrer";
  return node;
}
