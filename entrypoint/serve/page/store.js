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
  temperature: 0.7,
  maxTokens: null,
  key: "",
  ...read(SETTINGS, {}),
};

/** Keep the settings. */
export function saveSettings() {
  localStorage.setItem(SETTINGS, JSON.stringify(settings));
}

/** Conversations, the latest first. */
export const chats = [read(CHATS, [])].flat().filter((chat) => Array.isArray(chat?.messages));

/** Keep the conversations; where there is no room, the oldest go. */
export function saveChats() {
  chats.length = Math.min(chats.length, MOST);
  for (let kept = chats.filter((chat) => chat.messages.length); ; kept = kept.slice(0, -1)) {
    try {
      localStorage.setItem(CHATS, JSON.stringify(kept));
      return;
    } catch (error) {
      if (!kept.length) throw error;
    }
  }
}
