// Markdown as DOM nodes. Text only ever becomes text: there is no way from an answer to HTML.
//
// markdown-it reads CommonMark and tells what it found as tokens; its own writer of HTML is not
// used. Formulas become MathML by temml, which is loaded before this module.

import { highlight } from "./highlight.js";
import MarkdownIt from "./vendor/markdown-it.js";

const FORMULAS = [
  ["\\(", "\\)", false],
  ["\\[", "\\]", true],
  ["$$", "$$", true],
];
// An address ends before the punctuation of the sentence that it stands in, Chinese or not.
const ADDRESS = /https?:\/\/[^\s<>"'`()[\]{}\u3000-\u303f\uff00-\uffef\u2018-\u201d\u2026]+(?<![.,:;!?*_~])/g;
const TASK = /^\[([ xX])\]\s+/;

const parser = new MarkdownIt({ breaks: true });
parser.inline.ruler.before("escape", "formula", formula);
parser.block.ruler.before("fence", "formula", formulas, { alt: ["paragraph", "blockquote", "list"] });
parser.validateLink = (target) => /^(https?:|mailto:)/i.test(target);

/** Show `text` in `node`. Blocks that are there already stay, so that an answer can grow. */
export function render(node, text) {
  const source = text.split("\n");
  const wanted = blocks(parser.parse(text, {}));
  const shown = (node.shown ??= []);
  let same = 0;
  const lines = ([{ map }]) => source.slice(...map).join("\n");
  while (same < wanted.length && same < shown.length && shown[same] === lines(wanted[same])) same += 1;
  while (node.childNodes.length > same) node.lastChild.remove();
  shown.length = same;
  for (const block of wanted.slice(same)) {
    node.append(build(block));
    shown.push(lines(block));
  }
}

/** Cut a flat list of tokens into the outermost blocks. */
function blocks(tokens) {
  const found = [];
  for (const token of tokens) {
    if (token.level === 0 && token.nesting >= 0) found.push([]);
    found.at(-1).push(token);
  }
  return found;
}

/** Return the nodes that tokens tell of. */
function build(tokens) {
  const root = document.createDocumentFragment();
  const open = [root];
  for (const token of tokens) {
    const here = open.at(-1);
    if (token.nesting < 0) {
      open.pop();
    } else if (token.nesting > 0) {
      const [outer, inner] = token.hidden ? [null, here] : opened(token);
      if (outer) here.append(outer);
      open.push(inner);
    } else {
      here.append(...single(token, here));
    }
  }
  return root;
}

function make(tag, ...children) {
  const node = document.createElement(tag);
  node.append(...children);
  return node;
}

/** Return the node that a token opens, and the one in it that the next ones go into. */
function opened(token) {
  const whole = (node) => [node, node];
  switch (token.type) {
    case "heading_open":
      // The page's own heading is above those of an answer.
      return whole(make(`h${Math.min(6, Number(token.tag[1]) + 1)}`));
    case "ordered_list_open": {
      const list = make("ol");
      list.start = token.attrGet("start") ?? 1;
      return whole(list);
    }
    case "table_open": {
      const table = make("table");
      const frame = make("div", table);
      frame.className = "table";
      frame.tabIndex = 0; // it scrolls
      return [frame, table];
    }
    case "th_open":
    case "td_open": {
      const cell = make(token.tag);
      cell.className = token.attrGet("style")?.split(":")[1] ?? "left";
      return whole(cell);
    }
    case "link_open":
      return whole(link(token.attrGet("href")));
    default:
      return whole(make(token.tag));
  }
}

/** Return the nodes of a token that stands alone. */
function single(token, parent) {
  switch (token.type) {
    case "inline":
      return [inline(token.children, parent)];
    case "fence":
    case "code_block":
      return [code(token.content.replace(/\n$/, ""), token.info.trim().split(/\s+/)[0])];
    case "code_inline":
      return [make("code", token.content)];
    case "formula":
      return [typeset(token)];
    case "hr":
      return [make("hr")];
    case "softbreak":
    case "hardbreak":
      return [make("br")];
    case "image":
      return [link(token.attrGet("src"), token.content || token.attrGet("src"))];
    default:
      return parent.closest?.("a") ? [token.content] : addresses(token.content);
  }
}

/** Return a paragraph's content; where it begins a list's item, a task's box is one. */
function inline(children, parent) {
  const item = parent.nodeName === "P" ? parent.parentNode : parent;
  const task = item.nodeName === "LI" && !parent.childNodes.length && TASK.exec(children[0]?.content ?? "");
  if (!task) return build(children);
  children[0].content = children[0].content.slice(task[0].length);
  item.className = "task";
  const mark = make("span", task[1] === " " ? "☐ " : "☑ ");
  const content = build(children);
  mark.className = "mark";
  content.prepend(mark);
  return content;
}

function code(body, language) {
  const head = make("div", make("span", language || "text"));
  head.className = "code-head";
  const text = make("pre", make("code", highlight(body, language)));
  text.tabIndex = 0; // it scrolls
  const frame = make("div", head, text);
  frame.className = "code";
  return frame;
}

/** Return text with its addresses as links. */
function addresses(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(ADDRESS)) {
    nodes.push(text.slice(end, match.index), link(match[0], match[0]));
    end = match.index + match[0].length;
  }
  return [...nodes, text.slice(end)];
}

function link(target, ...label) {
  const node = make("a", ...label);
  node.href = target;
  node.target = "_blank";
  node.rel = "noopener noreferrer";
  return node;
}

// ---- Formulas ---------------------------------------------------------------------------------

/** Return a formula as MathML, or as it was written if it is none. */
function typeset({ content, block, markup }) {
  const node = make(block ? "div" : "span");
  node.className = "formula";
  if (block) node.tabIndex = 0; // it scrolls
  try {
    globalThis.temml.render(content, node, { displayMode: block, throwOnError: true, maxExpand: 200, maxSize: [20, 20] });
  } catch {
    node.textContent = markup;
  }
  return node;
}

/** A rule of markdown-it: a formula within a paragraph. */
function formula(state, silent) {
  const found = FORMULAS.find(([begin]) => state.src.startsWith(begin, state.pos));
  if (!found) return false;
  const [begin, end, block] = found;
  state.unclosed ??= new Set(); // so that many beginnings without an end are sought once
  if (state.unclosed.has(end)) return false;
  const at = state.src.indexOf(end, state.pos + begin.length);
  if (at < 0) state.unclosed.add(end);
  if (at < 0 || at >= state.posMax) return false;
  if (!silent) {
    const token = state.push("formula", "", 0);
    token.content = state.src.slice(state.pos + begin.length, at);
    token.markup = begin + token.content + end;
    token.block = block;
  }
  state.pos = at + end.length;
  return true;
}

/** A rule of markdown-it: a formula of whole lines, in which nothing else is Markdown. */
function formulas(state, startLine, endLine, silent) {
  const line = (number) => state.src.slice(state.bMarks[number] + state.tShift[number], state.eMarks[number]).trim();
  const found = FORMULAS.find(([begin, , block]) => block && line(startLine).startsWith(begin));
  if (!found || state.sCount[startLine] - state.blkIndent >= 4) return false;
  const [begin, end] = found;
  let text = line(startLine).slice(begin.length);
  let at = startLine;
  state.unclosed ??= new Set();
  if (state.unclosed.has(end) && !text.endsWith(end)) return false;
  while (!text.endsWith(end)) {
    at += 1;
    if (at >= endLine || state.sCount[at] < state.blkIndent) {
      if (at >= endLine) state.unclosed.add(end);
      return false;
    }
    text += `\n${line(at)}`;
  }
  if (silent) return true;
  const token = state.push("formula", "", 0);
  token.content = text.slice(0, -end.length);
  token.markup = begin + text;
  token.block = true;
  token.map = [startLine, at + 1];
  state.line = at + 1;
  return true;
}
