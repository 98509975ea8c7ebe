// What the page says, in English and in Chinese.

const WORDS = {
  en: {
    hello: "What can I help with?",
    about: "The language model runs on this very server. Nothing you type goes anywhere else.",
    ask: "Ask anything",
    hint: "Enter sends · Shift+Enter starts a new line · Esc stops",
    newChat: "New chat",
    history: "Conversations",
    kept: "Kept in this browser only.",
    conversation: "Conversation",
    model: "Model",
    settings: "Settings",
    system: "System prompt",
    systemHint: "What the model is told beforehand, for example: Answer in one sentence.",
    temperature: "Temperature",
    maxTokens: "Longest answer, in tokens",
    noLimit: "no limit",
    key: "API key",
    keyHint: "only if the server asks for one",
    theme: "Appearance",
    themeAuto: "As the system",
    themeLight: "Light",
    themeDark: "Dark",
    forget: "Delete all conversations",
    reallyForget: "Delete all conversations in this browser?",
    docs: "API description",
    close: "Close",
    send: "Send",
    stop: "Stop",
    toEnd: "To the end",
    skip: "Go to the question",
    copy: "Copy",
    copied: "Copied",
    again: "Answer again",
    remove: "Delete",
    you: "You",
    stopped: "stopped",
    loading: "loading…",
    offline: "no connection",
    keyNeeded: "This server asks for a key. Enter it in the settings.",
    broken: "The connection broke off.",
    cost: (tokens, rate, first) => `${tokens} tokens · ${rate} tok/s · first after ${first} s`,
    cut: "The answer was cut off at the token limit.",
    ideas: [
      ["Explain", "Explain how a hash function works, with a short example."],
      ["Write code", "Write a Python function that merges two sorted lists, with tests."],
      ["Translate", "Translate into Chinese: The best time to plant a tree was twenty years ago."],
      ["Plan", "Plan a weekend in Shanghai for two, as a table."],
    ],
    other: "中文",
    withPython: "The same requests as OpenAI's API. With its Python client:",
    withCurl: "With curl:",
    whole: "The whole description:",
    request: "Request",
    error: "Error",
  },
  zh: {
    hello: "有什么可以帮您？",
    about: "语言模型就在这台服务器上运行，您输入的内容不会发往别处。",
    ask: "请提问",
    hint: "Enter 发送 · Shift+Enter 换行 · Esc 停止",
    newChat: "新对话",
    history: "对话记录",
    kept: "只保存在此浏览器中。",
    conversation: "对话",
    model: "模型",
    settings: "设置",
    system: "系统提示词",
    systemHint: "预先告诉模型的话，例如：请用一句话回答。",
    temperature: "温度",
    maxTokens: "回答最长词元数",
    noLimit: "不限",
    key: "API 密钥",
    keyHint: "仅在服务要求时填写",
    theme: "外观",
    themeAuto: "跟随系统",
    themeLight: "浅色",
    themeDark: "深色",
    forget: "删除所有对话",
    reallyForget: "删除此浏览器中的所有对话？",
    docs: "API 说明",
    close: "关闭",
    send: "发送",
    stop: "停止",
    toEnd: "到最后",
    skip: "跳到提问框",
    copy: "复制",
    copied: "已复制",
    again: "重新回答",
    remove: "删除",
    you: "您",
    stopped: "已停止",
    loading: "载入中……",
    offline: "连接不上",
    keyNeeded: "此服务需要密钥，请在设置中填写。",
    broken: "连接中断。",
    cost: (tokens, rate, first) => `${tokens} 个词元 · 每秒 ${rate} 个 · ${first} 秒后开始`,
    cut: "回答达到词元上限，被截断。",
    ideas: [
      ["解释", "请解释哈希函数的原理，并举一个简短的例子。"],
      ["写代码", "写一个合并两个有序列表的 Python 函数，并附测试。"],
      ["翻译", "翻译成英文：种一棵树最好的时间是二十年前，其次是现在。"],
      ["计划", "用表格为两个人安排一个上海的周末。"],
    ],
    other: "English",
    withPython: "请求与 OpenAI 的 API 相同。用其 Python 客户端：",
    withCurl: "用 curl：",
    whole: "完整说明：",
    request: "请求",
    error: "错误",
  },
};

export let words = WORDS.en;

/** Switch to a language, "en" or "zh", and put its words where the page names them. */
export function speak(language) {
  words = WORDS[language];
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-word]")) {
    node.textContent = words[node.dataset.word];
  }
  for (const node of document.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", words[node.dataset.label]);
    if (node.matches("button")) node.title = words[node.dataset.label];
  }
  for (const node of document.querySelectorAll("[data-placeholder]")) {
    node.placeholder = words[node.dataset.placeholder];
  }
}

/** Return the language of a person who has not chosen one. */
export const preferred = () => (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
