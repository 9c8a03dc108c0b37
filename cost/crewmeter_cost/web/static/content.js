// What a step captured: prompts, answers, tool arguments and results. All of it goes in as text.

import { el } from "./dom.js";

const TITLES = { system_instructions: "System", input_messages: "Prompt", output_messages: "Answer", tool_arguments: "Arguments", tool_result: "Result", error_message: "Error message" };
const NEEDS_KEY = "Prompts and answers of this step need a key with the role content.";

/** The items that a step captured, from the server; none where nothing is stored. */
async function items(runId, spanId) {
  const response = await fetch(`api/content/${encodeURIComponent(runId)}/${encodeURIComponent(spanId)}`, { headers: { accept: "application/json" } });
  if (response.status === 401 || response.status === 403) throw new Error(NEEDS_KEY);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body.items;
}

/** Messages in the shape of the GenAI conventions, or null for any other text. */
function messages(text) {
  if (!text.startsWith("[")) return null;
  try {
    const found = JSON.parse(text);
    return found.length && found.every((message) => Array.isArray(message?.parts)) ? found : null;
  } catch {
    return null;
  }
}

function plain(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "";
}

/** A part of a message as text: what was said, a tool call, or a tool's answer. */
function part(value) {
  if (value?.type === "text") return plain(value.content);
  if (value?.type === "tool_call") return `${plain(value.name)}(${plain(value.arguments)})`;
  if (value?.type === "tool_call_response") return plain(value.response);
  return plain(value);
}

/** JSON with line breaks, any other text as it is. */
function readable(text) {
  if (!/^[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function block(title, text) {
  return el("figure", { class: "content" }, el("figcaption", {}, title), el("pre", { tabindex: "0" }, text));
}

function drawn({ item, text }) {
  const title = TITLES[item] ?? item;
  const found = messages(text);
  if (!found) return [block(title, readable(text))];
  return found.map((message) => block(`${title}: ${plain(message.role ?? "?")}`, message.parts.map(part).join("\n")));
}

/** Put what a step captured under its facts, once it is there and the step is still selected. */
export async function drawContent(holder, runId, spanId) {
  let blocks;
  try {
    blocks = (await items(runId, spanId)).flatMap(drawn);
  } catch (error) {
    blocks = [el("p", { class: "note" }, error.message)];
  }
  holder.replaceChildren(...blocks);
}
