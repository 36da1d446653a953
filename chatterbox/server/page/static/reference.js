// The API reference: renders calls, sockets, fields and examples from `openapi.json`, as a
// page that needs no other host.

import { getJson, getKey } from "./api.js";
import { $, el, showError } from "./dom.js";
import { withKey } from "./key.js";
import { coded, fieldsTable, know, resolved, table } from "./tables.js";
import { tryIt } from "./try.js";

const HERE = new URL(".", location.href).href.replace(/\/$/, "");
const ORIGIN = /http:\/\/[\d.:]+/; // as the server writes it

function parametersOf({ parameters = [] }) {
  const rows = { properties: {}, required: [] };
  for (const { name, required, schema, description } of parameters) {
    rows.properties[name] = { description, ...schema };
    if (required) rows.required.push(name);
  }
  return fieldsTable(rows, "In the address");
}

function bodyOf({ requestBody }) {
  if (!requestBody) return "";
  const kinds = Object.entries(requestBody.content);
  const [, { schema }] = kinds[kinds.length - 1]; // the last knows files too
  const sent = el("p", { className: "hint" }, `Body: ${kinds.map(([kind]) => kind).join(", ")}`);
  return el("div", {}, sent, fieldsTable(schema));
}

function answersOf({ responses = {} }) {
  const rows = Object.entries(responses).map(([status, { description, content = {} }]) => [
    status, description, Object.keys(content).join(", "),
  ]);
  const fields = resolved(responses[200]?.content?.["application/json"]?.schema);
  return el("div", {}, table(["Answer", "What", "Content"], rows), fieldsTable(fields, "Answer's field"));
}

/** An example to copy; a key is shown as the variable that holds it. */
function exampleOf({ "x-codeSamples": samples = [] }) {
  const key = getKey() ? ' -H "Authorization: Bearer $KEY"' : "";
  return samples.map(({ source }) => {
    const text = source.replace(ORIGIN, HERE).replace("--fail-with-body", `--fail-with-body${key}`);
    const line = el("pre", {}, text);
    const copy = () => navigator.clipboard?.writeText(text) ?? getSelection().selectAllChildren(line);
    return el("div", { className: "example" }, line, el("button", { type: "button", onclick: copy }, "Copy"));
  });
}

function entry(method, path, description, ...parts) {
  const [does, ...more] = (description ?? "").split("\n");
  const rest = more.join("\n").trim();
  return el("details", {},
    el("summary", {},
      el("span", { className: "method" }, method.toUpperCase()), el("span", { className: "path" }, path),
      el("span", { className: "does" }, ...coded(does))),
    rest ? el("p", {}, ...coded(rest)) : "", ...parts);
}

const callEntry = (method, path, operation) =>
  entry(method, path, operation.description ?? operation.summary,
    ...exampleOf(operation), ...tryIt(method, operation["x-try"]), parametersOf(operation), bodyOf(operation), answersOf(operation));

function messages(title, list) {
  return list.map(({ name, description, schema }) =>
    el("div", { className: "message" },
      el("p", {}, el("span", { className: "method" }, title), el("code", {}, name), " ", ...coded(description)), fieldsTable(schema)));
}

const said = ({ from, message }) => `${from} ${typeof message === "string" ? message : JSON.stringify(message)}`;

const socketEntry = ({ path, description, encoding, query, client, server, example }) =>
  entry("ws", path, description,
    el("p", { className: "hint" }, `${encoding}. In the example > is the client's, < the server's.`),
    el("pre", {}, example.map(said).join("\n")),
    fieldsTable(query, "In the address"), ...messages("client", client), ...messages("server", server));

const errorEntry = ({ code, status, description, do: remedy }) =>
  entry(String(status), code, description, el("p", {}, ...coded(remedy)));

/** Shows the entries that contain all search words, with their headings. */
function filter() {
  const words = $("filter").value.toLowerCase().split(/\s+/);
  const has = (text) => words.every((word) => text.toLowerCase().includes(word));
  let shown = 0;
  for (const group of $("calls").children) {
    const entries = [...group.querySelectorAll("details")];
    entries.forEach((one) => (one.hidden = !has(one.textContent)));
    const left = entries.filter((one) => !one.hidden).length;
    group.hidden = !left;
    shown += left;
  }
  $("found").textContent = $("filter").value ? `${shown} found` : "";
}

/** The loaded model's default sampling parameters; empty while it loads. */
async function modelDefaults() {
  const { data } = await getJson("v1/models").catch(() => ({ data: [] }));
  return Object.fromEntries(Object.entries(data[0]?.settings ?? {}).map(([name, about]) => [name, about.default]));
}

try {
  const schema = await withKey(() => getJson("openapi.json"));
  know(schema.components?.schemas ?? {}, await modelDefaults());
  $("title").textContent = `${schema.info.title} ${schema.info.version}`;
  const groups = new Map();
  const add = (tag, one) => groups.set(tag, [...(groups.get(tag) ?? []), one]);
  for (const [path, methods] of Object.entries(schema.paths)) {
    for (const [method, call] of Object.entries(methods)) add(call.tags?.[0] ?? "other", callEntry(method, path, call));
  }
  for (const socket of schema["x-sockets"]) add("sockets", socketEntry(socket));
  for (const error of schema["x-errors"]) add("errors", errorEntry(error));
  for (const [tag, entries] of groups) $("calls").append(el("section", {}, el("h2", {}, tag), ...entries));
  $("filter").oninput = filter;
} catch (fault) {
  showError($("error"), fault);
}
