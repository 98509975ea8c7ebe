// The chat page: what happens when something is typed, clicked or answered.

import { Refusal, answer, models, ready } from "./api.js";
import { render } from "./markdown.js";
import { chats, mergeChats, onOtherTab, saveChats, saveSettings, settings } from "./store.js";
import { preferred, speak, words } from "./words.js";

const $ = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 820px)");

let chat = null; // the conversation on the screen
let running = null; // { controller } while an answer comes
let following = true; // whether the end is kept in sight
let edited = null; // the question that is being changed
let refused = null; // the answer that waits for a key
let gone = []; // the conversations that were deleted last

// ---- Conversations ----------------------------------------------------------------------------

function newChat() {
  stop();
  chat = { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, title: "", messages: [] };
  showChat();
  showSidebar(false);
  $("question").focus();
}

function openChat(other) {
  stop();
  chat = other;
  showChat();
  showSidebar(false);
}

/** Delete conversations, so that they can be had back until others are. */
function removeChats(others) {
  gone = others.map((other) => ({ ...other }));
  for (const other of others) {
    Object.assign(other, { deleted: true, messages: [], title: "", changed: Date.now() });
  }
  saveChats();
  $("removed").hidden = false;
  if (others.includes(chat)) newChat();
  else showChats();
}

function undoRemove() {
  for (const each of gone) {
    const other = chats.find(({ id }) => id === each.id) ?? chats[chats.push({}) - 1];
    Object.assign(other, each, { deleted: false, changed: Date.now() });
  }
  gone = [];
  $("removed").hidden = true;
  keepAll();
}

function renameChat(other, row) {
  const box = element("input", "rename");
  box.value = other.title;
  box.setAttribute("aria-label", words.rename);
  const done = (keeps) => {
    if (!box.isConnected) return;
    if (keeps && box.value.trim()) Object.assign(other, { title: box.value.trim(), changed: Date.now() });
    keepAll();
    showTitle();
  };
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !composes(event)) done(true);
    if (event.key === "Escape") done(false);
  });
  box.addEventListener("blur", () => done(true));
  row.replaceChildren(box);
  box.select();
}

/** Keep a conversation that was gone on with. */
function keep(other = chat) {
  other.changed = Date.now();
  if (!chats.includes(other)) chats.unshift(other);
  keepAll();
}

function keepAll() {
  saveChats(chat);
  showChats();
}

function matches(other, words) {
  const text = [other.title, ...other.messages.map(({ content }) => content)].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

function showChats() {
  const sought = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = chats.filter((each) => !each.deleted && matches(each, sought));
  $("chats").replaceChildren(
    ...shown.map((each) => {
      const row = element("li");
      const open = element("button", "chat", each.title);
      open.addEventListener("click", () => openChat(each));
      if (each === chat) open.setAttribute("aria-current", "true");
      const rename = iconButton("pen", words.rename, () => renameChat(each, row));
      const remove = iconButton("trash", words.remove, () => removeChats([each]));
      row.append(open, rename, remove);
      return row;
    }),
  );
}

/** Another tab has kept something: show it, unless an answer comes here. */
function showOthers() {
  const before = chat.changed;
  mergeChats(chat);
  if (chat.deleted) newChat();
  else if (chat.changed !== before && !running) showChat();
  else showChats();
}

function exportChat() {
  const parts = chat.messages.map(({ role, content }) => `## ${role === "user" ? words.you : words.model}\n\n${content}\n`);
  const file = new Blob([`# ${chat.title}\n\n${parts.join("\n")}`], { type: "text/markdown" });
  const way = element("a");
  way.href = URL.createObjectURL(file);
  way.download = `${chat.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "llmdeploy"}.md`;
  way.click();
  setTimeout(() => URL.revokeObjectURL(way.href), 1000);
}

function showTitle() {
  $("title").textContent = chat.title;
  document.title = chat.title ? `${chat.title} · llmdeploy` : "llmdeploy";
}

function showChat() {
  stopEditing();
  $("messages").replaceChildren(...chat.messages.map((message) => bubble(message).row));
  $("empty").hidden = chat.messages.length > 0;
  $("title").hidden = $("export").disabled = !chat.messages.length;
  showTitle();
  showChats();
  if (chat.messages.length) showEnd();
}

// ---- One message ------------------------------------------------------------------------------

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

function iconButton(name, label, act) {
  const button = element("button", "icon small", icon(name));
  button.type = "button";
  button.title = label;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => act(button));
  return button;
}

async function copy(text, button) {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else copyPlainly(text);
  button.focus();
  button.replaceChildren(icon("done"));
  setTimeout(() => button.replaceChildren(icon("copy")), 1200);
}

/** Copy where the browser has no clipboard for us: over plain HTTP from another machine. */
function copyPlainly(text) {
  const box = element("textarea", "hidden");
  box.value = text;
  document.body.append(box);
  box.select();
  document.execCommand("copy");
  box.remove();
}

/** Return the nodes of a message: its row, the text and the line below it. */
function bubble(message) {
  const text = element("div", "text");
  const foot = element("div", "foot");
  const row = element("li", message.role, element("div", "bubble", text), foot);
  if (message.role === "user") {
    text.textContent = message.content;
    foot.append(
      iconButton("copy", words.copy, (button) => copy(message.content, button)),
      iconButton("pen", words.edit, () => edit(message)),
      iconButton("again", words.resend, () => askAgain(chat.messages[chat.messages.indexOf(message) + 1])),
    );
  } else {
    showThought(text, message);
    showAnswer(text, message.content);
    showFoot(foot, message);
  }
  return { row, text, foot };
}

/** Show what a model thought, folded, above its answer. */
function showThought(text, message) {
  if (!message.thought) return;
  let fold = text.previousElementSibling;
  if (!fold) {
    fold = element("details", "thought", element("summary", "", words.thought), element("div"));
    text.before(fold);
  }
  fold.lastChild.textContent = message.thought;
}

function showAnswer(node, content) {
  render(node, content);
  for (const head of node.querySelectorAll(".code-head:not(:has(button))")) {
    head.append(
      iconButton("copy", words.copy, (button) => copy(head.nextElementSibling.textContent, button)),
    );
  }
}

function showFoot(foot, message) {
  const note = element("span", "note", message.note ?? "");
  if (message.failed) note.classList.add("failed");
  if (message.refused) {
    const way = element("button", "plain", words.settings);
    way.addEventListener("click", () => openSettings(message));
    note.append(" ", way);
  }
  foot.replaceChildren(
    iconButton("copy", words.copy, (button) => copy(message.content, button)),
    iconButton("again", words.again, () => askAgain(message)),
    note,
  );
}

// ---- Asking -----------------------------------------------------------------------------------

function send() {
  const text = $("question").value.trim();
  if (!text || running) return;
  $("question").value = "";
  fit();
  if (edited) {
    chat.messages.length = chat.messages.indexOf(edited);
    showChat();
  }
  chat.title ||= text.split("\n")[0].slice(0, 60);
  chat.messages.push({ role: "user", content: text });
  $("messages").append(bubble(chat.messages.at(-1)).row);
  $("empty").hidden = true;
  $("title").hidden = $("export").disabled = false;
  showTitle();
  ask();
}

/** Put a question back into the box; once it is sent, what came after it is gone. */
function edit(message) {
  stop();
  edited = message;
  $("editing").hidden = false;
  $("question").value = message.content;
  fit();
  $("question").focus();
}

function stopEditing() {
  if (edited) $("question").value = "";
  edited = null;
  $("editing").hidden = true;
  fit();
}

function askAgain(message) {
  stop();
  const at = chat.messages.indexOf(message);
  if (at >= 1) chat.messages.length = at;
  showChat();
  ask();
}

async function ask() {
  const asked = chat;
  const history = asked.messages
    .filter((message) => message.content)
    .map(({ role, content }) => ({ role, content }));
  const message = { role: "assistant", content: "" };
  asked.messages.push(message);
  keep(asked);
  const { row, text, foot } = bubble(message);
  $("messages").append(row);
  row.classList.add("waiting");
  following = true;
  showEnd();
  const controller = new AbortController();
  begin(controller);
  const begun = performance.now();
  let first = 0;
  let frame = 0;
  const draw = () => {
    frame = 0;
    row.classList.remove("waiting");
    showThought(text, message);
    showAnswer(text, message.content);
    if (following) showEnd();
  };
  try {
    for await (const piece of answer(question(history), settings.key, controller.signal)) {
      if (piece.text || piece.thought) {
        first ||= performance.now() - begun;
        message.content += piece.text ?? "";
        if (piece.thought) message.thought = (message.thought ?? "") + piece.thought;
        frame ||= requestAnimationFrame(draw);
      } else {
        message.note = cost(piece.usage, first, performance.now() - begun);
        if (piece.reason === "length") message.note += ` · ${words.cut}`;
      }
    }
  } catch (error) {
    fail(message, error);
  }
  cancelAnimationFrame(frame);
  draw();
  showFoot(foot, message);
  if (running?.controller === controller) begin(null);
  if (!asked.deleted) keep(asked);
  if (following && asked === chat) showEnd();
}

function question(history) {
  const system = settings.system.trim();
  return {
    model: $("model").value || settings.model || undefined, // the list may not have come yet
    messages: system ? [{ role: "system", content: system }, ...history] : history,
    temperature: settings.temperature ?? undefined, // the server knows what suits the model
    ...(settings.maxTokens ? { max_tokens: settings.maxTokens } : {}),
  };
}

function cost(usage, first, total) {
  const steps = usage.completion_tokens - 1;
  const rate = steps > 0 ? (steps / (total - first)) * 1000 : 0;
  return words.cost(usage.completion_tokens, rate.toFixed(1), (first / 1000).toFixed(1));
}

function fail(message, error) {
  if (error.name === "AbortError") {
    message.note = words.stopped;
    return;
  }
  message.failed = true;
  message.note = error instanceof Refusal ? (words.problems[error.code] ?? error.message) : words.broken;
  if (error.status === 401) {
    message.note = keyHint();
    message.refused = true;
    openSettings(message);
  }
}

const keyHint = () => (settings.key ? words.keyWrong : words.keyNeeded);

function begin(controller) {
  running = controller && { controller };
  $("send").hidden = Boolean(running);
  $("stop").hidden = !running;
}

function stop() {
  running?.controller.abort();
  begin(null);
}

// ---- The page ---------------------------------------------------------------------------------

function showEnd() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
}

function fit() {
  const box = $("question");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, innerHeight * 0.4)}px`;
  $("send").disabled = !box.value.trim();
}

function showSidebar(open) {
  if (!narrow.matches || open === document.body.classList.contains("sidebar")) return;
  document.body.classList.toggle("sidebar", open);
  $("sidebar").inert = !open;
  $("main").inert = open; // it lies below the veil
  $(open ? "close-sidebar" : "open-sidebar").focus();
}

/** Open the settings; with an answer that was `refused`, at the key, and ask again after it. */
function openSettings(message = null) {
  refused = message && { message, key: settings.key };
  $("system").value = settings.system;
  $("temperature").value = settings.temperature ?? "";
  $("max-tokens").value = settings.maxTokens ?? "";
  $("key").value = settings.key;
  $("theme").value = settings.theme;
  if (!$("settings").open) $("settings").showModal();
  if (message) $("key").focus();
}

/** Return the number that was typed, or the bound that it passed; null if there is none. */
function between(low, typed, high) {
  return typed === "" ? null : Math.min(Math.max(Number(typed), low), high);
}

function readSettings() {
  const keyBefore = settings.key;
  settings.system = $("system").value;
  settings.temperature = between(0, $("temperature").value, 2);
  settings.maxTokens = Number($("max-tokens").value) || null;
  settings.key = $("key").value.trim();
  settings.theme = $("theme").value;
  saveSettings();
  dress();
  if (settings.key !== keyBefore) showModels();
}

function dress() {
  document.documentElement.dataset.theme = settings.theme;
  speak(settings.language || preferred());
  $("language").textContent = words.other;
  $("ideas").replaceChildren(
    ...words.ideas.map(([title, text]) => {
      const idea = element("button", "idea", element("strong", "", title), element("span", "", text));
      idea.addEventListener("click", () => {
        $("question").value = text;
        fit();
        send();
      });
      return idea;
    }),
  );
  showChats();
}

async function showModels() {
  try {
    const found = await models(settings.key);
    $("model").replaceChildren(...found.map((each) => new Option(each.display_name, each.id)));
    if (found.some((each) => each.id === settings.model)) $("model").value = settings.model;
    showState();
  } catch (error) {
    $("state").textContent = error.status === 401 ? keyHint() : words.offline;
  }
}

/** Tell while the model is being loaded; look again until it is there. */
async function showState() {
  const loaded = await ready().catch(() => null);
  $("state").textContent = loaded ? "" : loaded === null ? words.offline : words.loading;
  if (!loaded) setTimeout(showState, 1000);
}

// ---- What a person does -----------------------------------------------------------------------

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("question").addEventListener("input", fit);
// While a Chinese word is composed, Enter chooses it; Safari tells by the code alone.
const composes = (event) => event.isComposing || event.keyCode === 229;
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !composes(event)) {
    event.preventDefault();
    send();
  }
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) stop();
  else if (event.key === "Escape" && edited) stopEditing();
  if (event.key === "Escape") showSidebar(false);
  if (event.altKey && event.code === "KeyN") {
    event.preventDefault();
    newChat();
  }
});
$("stop").addEventListener("click", stop);
$("new").addEventListener("click", newChat);
$("open-sidebar").addEventListener("click", () => {
  if (narrow.matches) showSidebar(true);
  else document.body.classList.toggle("wide");
});
$("close-sidebar").addEventListener("click", () => showSidebar(false));
$("veil").addEventListener("click", () => showSidebar(false));
$("to-end").addEventListener("click", showEnd);
$("scroll").addEventListener("scroll", () => {
  const box = $("scroll");
  following = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
  $("to-end").hidden = following;
});
$("model").addEventListener("change", () => {
  settings.model = $("model").value;
  saveSettings();
});
$("language").addEventListener("click", () => {
  settings.language = words.other === "English" ? "en" : "zh";
  saveSettings();
  dress();
});
$("open-settings").addEventListener("click", () => openSettings());
$("settings").addEventListener("close", () => {
  const { message, key } = refused ?? {};
  refused = null;
  if (message && settings.key !== key && chat.messages.includes(message)) askAgain(message);
});
$("search").addEventListener("input", showChats);
$("undo").addEventListener("click", undoRemove);
$("export").addEventListener("click", exportChat);
$("cancel").addEventListener("click", stopEditing);
onOtherTab(showOthers);
$("settings").addEventListener("input", readSettings);
$("forget").addEventListener("click", () => {
  if (!confirm(words.reallyForget)) return;
  $("settings").close();
  removeChats(chats.filter((each) => !each.deleted));
});
narrow.addEventListener("change", () => {
  document.body.classList.remove("sidebar");
  $("sidebar").inert = narrow.matches;
  $("main").inert = false;
});
addEventListener("pagehide", () => {
  if (running) keep();
});

$("sidebar").inert = narrow.matches;
chat = chats.find((each) => !each.deleted) ?? null;
dress();
if (chat) showChat();
else newChat();
fit();
showModels();
