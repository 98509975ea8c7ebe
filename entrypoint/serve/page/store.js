// What the browser keeps: conversations and settings, in localStorage only.

const CHATS = "llmdeploy.chats";
const SETTINGS = "llmdeploy.settings";
const MOST = 200;

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise; // what is there was not written by us
  }
}

/** Settings, with defaults for what was never set. */
export const settings = {
  language: "",
  theme: "",
  model: "",
  system: "",
  temperature: null,
  maxTokens: null,
  key: "",
  ...read(SETTINGS, {}),
};

/** Keep the settings. */
export function saveSettings() {
  localStorage.setItem(SETTINGS, JSON.stringify(settings));
}

const stored = () => [read(CHATS, [])].flat().filter((chat) => Array.isArray(chat?.messages));
const latestFirst = (one, other) => (other.changed ?? 0) - (one.changed ?? 0);

/** Conversations, the latest first; a deleted one is there too, without its messages. */
export const chats = stored();

/**
 * Take over what other tabs have kept: of each conversation, the one that was changed last.
 * What is under way here, `mine`, stays the same object.
 */
export function mergeChats(mine) {
  const known = new Map(chats.map((chat) => [chat.id, chat]));
  for (const other of stored()) {
    const own = known.get(other.id);
    if (!own) known.set(other.id, other);
    else if ((other.changed ?? 0) > (own.changed ?? 0)) {
      if (own === mine) Object.assign(own, other);
      else known.set(other.id, other);
    }
  }
  chats.splice(0, chats.length, ...[...known.values()].sort(latestFirst).slice(0, MOST));
}

/** Keep the conversations beside those of other tabs; where there is no room, the oldest go. */
export function saveChats(mine) {
  mergeChats(mine);
  for (let kept = chats.filter((chat) => chat.messages.length || chat.deleted); ; kept = kept.slice(0, -1)) {
    try {
      localStorage.setItem(CHATS, JSON.stringify(kept));
      return;
    } catch (error) {
      if (!kept.length) throw error;
    }
  }
}

/** Call `act` when another tab has kept something. */
export function onOtherTab(act) {
  addEventListener("storage", (event) => {
    if (event.key === CHATS) act();
  });
}
