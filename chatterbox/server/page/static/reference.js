// Which calls are there, with which fields? `openapi.json` as a page that needs no other host.
// Knows OpenAPI as this server writes it: bodies without nested objects worth a table of their own.

import { getJson } from "./api.js";
import { $, el, showError } from "./dom.js";
import { withKey } from "./key.js";

const BOUNDS = { minimum: "≥", exclusiveMinimum: ">", maximum: "≤", exclusiveMaximum: "<", maxLength: "length ≤" };

let schemas = {};

const resolved = (schema) => (schema?.$ref ? schemas[schema.$ref.split("/").pop()] : schema) ?? {};

/** The schema itself, or its one alternative that is not null. */
function essence(schema) {
  const kinds = (schema.anyOf ?? []).map(resolved).filter(({ type }) => type !== "null");
  return kinds.length === 1 ? { ...kinds[0], ...schema } : { ...resolved(schema), ...schema };
}

function typeOf(schema) {
  const { type, enum: values, format, items, anyOf } = essence(schema);
  if (values) return values.join(" | ");
  if (schema.const !== undefined) return String(schema.const);
  if (format === "binary") return "file";
  if (type === "array") return `list of ${typeOf(items ?? {})}`;
  return type ?? anyOf?.map((kind) => typeOf(resolved(kind))).join(" | ") ?? "any";
}

function boundsOf(schema) {
  const known = essence(schema);
  const bounds = Object.keys(BOUNDS).filter((name) => name in known);
  return bounds.map((name) => `${BOUNDS[name]} ${known[name]}`).join(", ");
}

function table(head, rows) {
  const row = (cells, kind) => el("tr", {}, ...cells.map((cell) => el(kind, {}, cell ?? "")));
  return el("div", { className: "scroll" }, el("table", {}, row(head, "th"), ...rows.map((cells) => row(cells, "td"))));
}

function parametersOf({ parameters = [] }) {
  if (!parameters.length) return "";
  const rows = parameters.map(({ name, in: where, required, schema, description }) => [
    name, typeOf(schema), required ? "required" : "", where, description,
  ]);
  return table(["Parameter", "Type", "", "In", "What"], rows);
}

function bodyOf({ requestBody }) {
  if (!requestBody) return "";
  const kinds = Object.entries(requestBody.content);
  const [, { schema }] = kinds[kinds.length - 1]; // the last knows files too
  const { properties = {}, required = [] } = resolved(schema);
  const rows = Object.entries(properties).map(([name, field]) => [
    name,
    typeOf(field),
    required.includes(name) ? "required" : field.default === undefined || field.default === null ? "" : `default ${field.default}`,
    boundsOf(field),
    field.description,
  ]);
  const sent = el("p", { className: "hint" }, `Body: ${kinds.map(([kind]) => kind).join(", ")}`);
  return el("div", {}, sent, rows.length ? table(["Field", "Type", "", "Bounds", "What"], rows) : "");
}

function answersOf({ responses = {} }) {
  const rows = Object.entries(responses).map(([status, { description, content = {} }]) => [
    status, description, Object.keys(content).join(", "),
  ]);
  return table(["Answer", "", "Content"], rows);
}

function entry(method, path, operation) {
  const [does, ...more] = (operation.description ?? operation.summary ?? "").split("\n");
  const summary = el(
    "summary", {},
    el("span", { className: "method" }, method.toUpperCase()),
    el("span", { className: "path" }, path),
    el("span", { className: "does" }, does),
  );
  const rest = more.join("\n").trim();
  return el(
    "details", {}, summary,
    rest ? el("p", {}, rest) : "", parametersOf(operation), bodyOf(operation), answersOf(operation),
  );
}

try {
  const { info, paths, components } = await withKey(() => getJson("openapi.json"));
  schemas = components?.schemas ?? {};
  $("title").textContent = `${info.title} ${info.version}`;
  const groups = new Map();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), entry(method, path, operation)]);
    }
  }
  for (const [tag, entries] of groups) $("calls").append(el("h2", {}, tag), ...entries);
} catch (fault) {
  showError($("error"), fault);
}
