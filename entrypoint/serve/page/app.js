// The chat page: what happens when something is typed, clicked or answered.

import { Refusal, answer, models, ready } from "./api.js";
import { render } from "./markdown.js";
import { chats, saveChats, saveSettings, settings } from "./store.js";
import { preferred, speak, words } from "./words.js";

const $ = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 820px)");

let chat = null; // the conversation on the screen
let running = null; // { controller } while an answer comes
let following = true; // whether the end is kept in sight

// ---- Conversations ----------------------------------------------------------------------------

function newChat() {
  stop();
  chat = { id: crypto.randomUUID?.() ?? String(Date.now()), title: "", messages: [] };
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

function removeChat(other) {
  chats.splice(chats.indexOf(other), 1);
  saveChats();
  if (other === chat) newChat();
  else showChats();
}

function keep() {
  if (chats[0] !== chat) {
    const at = chats.indexOf(chat);
    if (at >= 0) chats.splice(at, 1);
    chats.unshift(chat);
  }
  saveChats();
  showChats();
}

function showChats() {
  $("chats").replaceChildren(
    ...chats.map((each) => {
      const open = element("button", "chat", each.title);
      open.addEventListener("click", () => openChat(each));
      if (each === chat) open.setAttribute("aria-current", "true");
      const remove = iconButton("trash", words.remove, () => removeChat(each));
      return element("li", "", open, remove);
    }),
  );
}

function showChat() {
  $("messages").replaceChildren(...chat.messages.map((message) => bubble(message).row));
  $("empty").hidden = chat.messages.length > 0;
  document.title = chat.title ? `${chat.title} · llmdeploy` : "llmdeploy";
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
  await navigator.clipboard.writeText(text);
  button.replaceChildren(icon("done"));
  setTimeout(() => button.replaceChildren(icon("copy")), 1200);
}

/** Return the nodes of a message: its row, the text and the line below it. */
function bubble(message) {
  const text = element("div", "text");
  const foot = element("div", "foot");
  const row = element("li", message.role, element("div", "bubble", text), foot);
  if (message.role === "user") text.textContent = message.content;
  else showAnswer(text, message.content);
  if (message.role === "assistant") showFoot(foot, message);
  return { row, text, foot };
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
  chat.title ||= text.split("\n")[0].slice(0, 60);
  chat.messages.push({ role: "user", content: text });
  $("messages").append(bubble(chat.messages.at(-1)).row);
  $("empty").hidden = true;
  ask();
}

function askAgain(message) {
  stop();
  const at = chat.messages.indexOf(message);
  if (at < 1) return;
  chat.messages.length = at;
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
    showAnswer(text, message.content);
    if (following) showEnd();
  };
  try {
    for await (const piece of answer(question(history), settings.key, controller.signal)) {
      if (typeof piece === "string") {
        first ||= performance.now() - begun;
        message.content += piece;
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
  keep();
  if (following && asked === chat) showEnd();
}

function question(history) {
  const system = settings.system.trim();
  return {
    model: $("model").value || settings.model || undefined, // the list may not have come yet
    messages: system ? [{ role: "system", content: system }, ...history] : history,
    temperature: settings.temperature,
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
  message.note = error instanceof Refusal ? error.message : words.broken;
  if (error.status === 401) {
    message.note = words.keyNeeded;
    openSettings();
    $("key").focus();
  }
}

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

function openSettings() {
  $("system").value = settings.system;
  $("temperature").value = settings.temperature;
  $("temperature-value").textContent = settings.temperature;
  $("max-tokens").value = settings.maxTokens ?? "";
  $("key").value = settings.key;
  $("theme").value = settings.theme;
  if (!$("settings").open) $("settings").showModal();
}

function readSettings() {
  const keyBefore = settings.key;
  settings.system = $("system").value;
  settings.temperature = Number($("temperature").value);
  settings.maxTokens = Number($("max-tokens").value) || null;
  settings.key = $("key").value.trim();
  settings.theme = $("theme").value;
  $("temperature-value").textContent = settings.temperature;
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
    $("state").textContent = error.status === 401 ? words.keyNeeded : words.offline;
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
$("question").addEventListener("keydown", (event) => {
  // While a Chinese word is composed, Enter chooses it.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) stop();
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
$("open-settings").addEventListener("click", openSettings);
$("settings").addEventListener("input", readSettings);
$("forget").addEventListener("click", () => {
  if (!confirm(words.reallyForget)) return;
  chats.length = 0;
  saveChats();
  $("settings").close();
  newChat();
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
chat = chats[0] ?? null;
dress();
if (chat) showChat();
else newChat();
fit();
showModels();
